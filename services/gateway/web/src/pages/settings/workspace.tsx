import { call, eventLog, workflows } from "../../api/clients";
import { who } from "../../api/session";
import { integer, moment } from "../../format";
import { Card, Facts } from "../../ui/layout";
import { Failed, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { serverAddress } from "../runners/command";
import { factorOf } from "../usage/invoice-words";
import { roleWords } from "./roles";
import css from "./settings.module.css";

/** What this workspace is, who looks at it, and what a minute costs on which GPU. */
export function Workspace() {
  const me = who.value;
  const head = useAsked((signal) => eventLog.getHead({}, call(signal)), []);
  const role = roleWords(me?.role ?? 0);
  return (
    <div class={css.stack}>
      <Card title="Workspace">
        <Facts
          of={[
            ["Name", <b class="break">{me?.workspaceName}</b>],
            ["Id", <code>{me?.workspaceId}</code>],
            ["Platform", <code>{serverAddress()}</code>],
            [
              "Event log",
              head.value &&
                `${integer(head.value.position)} events, the last at ${moment(Number(head.value.recordedAtUs / 1000n))}`,
            ],
            ["Log id", head.value && <code>{head.value.logId}</code>],
          ]}
        />
        {head.problem && <Failed retry={head.reload}>{head.problem}</Failed>}
      </Card>
      <Card title="You">
        <Facts
          of={[
            ["Signed in as", me?.name || <span class="quiet">a token without a name</span>],
            ["Token", <code>{me?.subjectId}</code>],
            ["Role", `${role.name}: ${role.may.charAt(0).toLowerCase()}${role.may.slice(1)}`],
            ["Valid", me && me.expiresAtMs > 0n ? `until ${moment(Number(me.expiresAtMs))}` : "until it is revoked"],
          ]}
        />
      </Card>
      <Rates />
    </div>
  );
}

function Rates() {
  const asked = useAsked((signal) => workflows.listRates({}, call(signal)), []);
  const rates = asked.value;
  return (
    <Card title="What a minute costs">
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      {rates === undefined ? (
        !asked.problem && <Loading what="Loading the rates" />
      ) : (
        <div class={css.stack}>
          <p class="quiet">
            Compute minutes for a minute of the clock, relative to one NVIDIA T4. A GPU is charged by the longest name
            that its product name contains as whole words; the GPUs of a runner add up; advanced evaluation multiplies
            by {factorOf(rates.advancedEvaluationMicros)}. The rate of a training is written into the event log when a
            runner takes it: a later change of this table never changes the past.
          </p>
          <dl class={css.rates}>
            {rates.gpus.map((gpu) => (
              <div key={gpu.name}>
                <dt>{gpu.name}</dt>
                <dd>{factorOf(gpu.multiplierMicros)}</dd>
              </div>
            ))}
            <div>
              <dt class="quiet">any other</dt>
              <dd>{factorOf(rates.unlistedMicros)}</dd>
            </div>
          </dl>
        </div>
      )}
    </Card>
  );
}
