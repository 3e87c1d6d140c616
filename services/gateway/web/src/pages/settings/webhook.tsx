import { useState } from "preact/hooks";
import { call, newRequestId, webhooks } from "../../api/clients";
import { mayAdmin } from "../../api/session";
import { count, duration, integer } from "../../format";
import type { Webhook as Hook } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { now } from "../../time";
import { Button } from "../../ui/button";
import { Confirm } from "../../ui/dialog";
import { Card, Facts } from "../../ui/layout";
import { Empty, Failed, Loading, Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAsked, useEvery } from "../../ui/use";
import { kindWords } from "./roles";
import css from "./settings.module.css";
import { ReplayWebhook, SetWebhook } from "./webhook-dialogs";

// Deliveries go on by themselves; how far they are is asked for again and again while one looks.
const LOOK_MS = 5_000;

/** The workspace's own systems are told of what happens: where, of what, and how far it is. */
export function Webhook() {
  const [asking, setAsking] = useState<"set" | "replay" | "remove">();
  const asked = useAsked((signal) => webhooks.getWebhook({}, call(signal)), []);
  const { reload } = asked;
  useEvery(LOOK_MS, reload, asked.loading);
  const close = () => {
    setAsking(undefined);
    reload();
  };
  const hook = asked.value?.webhook;
  const set = (
    <Button kind="primary" onClick={() => setAsking("set")}>
      Set a webhook
    </Button>
  );
  return (
    <Card
      title="Webhook"
      actions={
        mayAdmin.value &&
        hook && (
          <div class={css.buttons}>
            <Button onClick={() => setAsking("set")}>Change</Button>
            <Button onClick={() => setAsking("replay")}>Replay</Button>
            <Button kind="danger" onClick={() => setAsking("remove")}>
              Remove
            </Button>
          </div>
        )
      }
    >
      {asked.problem && <Failed retry={reload}>{asked.problem}</Failed>}
      {asked.value === undefined ? (
        !asked.problem && <Loading what="Loading the webhook" />
      ) : hook === undefined ? (
        <Empty title="There is no webhook" action={mayAdmin.value && set}>
          A webhook tells a system of yours, as signed HTTP requests, when trainings end, are cut off, or the quota runs
          short.
        </Empty>
      ) : (
        <State hook={hook} />
      )}
      {asking === "set" && <SetWebhook hook={hook} onClose={close} />}
      {asking === "replay" && hook && <ReplayWebhook delivered={hook.deliveredPosition} onClose={close} />}
      {asking === "remove" && hook && <Remove hook={hook} onClose={close} />}
    </Card>
  );
}

function State({ hook }: { hook: Hook }) {
  const waitMs = Number(hook.nextTryAtMs) - now.value;
  return (
    <div class={css.stack}>
      {hook.failuresInARow > 0 ? (
        <Note tone="bad">
          {count(hook.failuresInARow, "failure")} in a row: {hook.lastFailure.replace(/\.?$/, ".")}{" "}
          <span aria-hidden="true">{waitMs > 0 ? `Tried again in ${duration(waitMs)}.` : "Tried again now."}</span>{" "}
          Nothing is lost: deliveries go on in order from there.
        </Note>
      ) : (
        <Note tone="good">Deliveries succeed: none has failed since the last one that came through.</Note>
      )}
      <Facts
        of={[
          ["Address", <span class="break">{hook.url}</span>],
          ["Tells of", kindWords(hook.kinds)],
          ["Delivered", `up to event #${integer(hook.deliveredPosition)}`],
        ]}
      />
    </div>
  );
}

function Remove({ hook, onClose }: { hook: Hook; onClose: () => void }) {
  const [requestId] = useState(newRequestId);
  const action = async () => {
    await webhooks.removeWebhook({ requestId }, call());
    say("The webhook is removed.");
  };
  return (
    <Confirm title="Remove the webhook?" verb="Remove" danger action={action} onClose={onClose}>
      <span class="break">{hook.url}</span> is told nothing from now on; what was not delivered yet is given up, and the
      signing secret ends.
    </Confirm>
  );
}
