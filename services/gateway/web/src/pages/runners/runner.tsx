import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { runners as api, call } from "../../api/clients";
import { mayAdmin } from "../../api/session";
import { gpus, moment, rate, size } from "../../format";
import type { Runner, Suspension } from "../../gen/protos/scheduler/v1/runner_pb";
import { liveJobs, runners } from "../../live/stores";
import { suspender } from "../../states";
import { Ago } from "../../ui/ago";
import { ButtonLink } from "../../ui/button";
import { Card, Facts, Head } from "../../ui/layout";
import { Empty, Failed, Loading, Note, Simulated } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { type Asking, RunnerDialog, RunnerMenu } from "./actions";
import css from "./runners.module.css";
import { RunnerState } from "./state";

/** One runner: what it has, what it does, who keeps it suspended. */
export default function RunnerPage() {
  const id = useRoute().params.id ?? "";
  const [asking, setAsking] = useState<Asking>();
  return (
    <>
      <About key={id} id={id} onAsk={setAsking} />
      {asking?.runner.runnerId === id && <RunnerDialog asking={asking} onClose={() => setAsking(undefined)} />}
    </>
  );
}

function About({ id, onAsk }: { id: string; onAsk: (asking: Asking) => void }) {
  const live = runners.value?.get(id);
  // One that was uninstalled is in no list, but its page still answers.
  const gone = runners.value !== undefined && live === undefined;
  const asked = useAsked(
    async (signal) => ({ gone, runner: (await api.getRunner({ runnerId: id }, call(signal))).runner }),
    [id, gone],
  );
  const runner = live ?? answered(asked.value, gone);
  if (runner === undefined)
    return asked.problem ? (
      <Empty title="This runner cannot be shown" action={<ButtonLink href="/runners">All runners</ButtonLink>}>
        {asked.problem}
      </Empty>
    ) : (
      <Loading what="Loading the runner" />
    );
  return (
    <>
      <Head
        title={runner.name}
        actions={mayAdmin.value && !runner.uninstalled && <RunnerMenu runner={runner} onAsk={onAsk} />}
      >
        <RunnerState runner={runner} /> {runner.inventory?.simulated && <Simulated />}
      </Head>
      {asked.problem && runners.value === undefined && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      {runner.uninstalled && <Note>It was uninstalled: it is no part of the platform any more.</Note>}
      {runner.suspensions.map((one) => (
        <Note tone="warn" key={one.owner}>
          {suspension(one)}
        </Note>
      ))}
      <div class={css.two} style={{ marginTop: "16px" }}>
        <Card title="Hardware">
          <Hardware runner={runner} />
        </Card>
        <Card title="Connection">
          <Facts
            of={[
              [
                "Training",
                runner.jobId && (
                  <a href={`/trainings/${runner.jobId}`}>{liveJobs.value?.get(runner.jobId)?.name ?? runner.jobId}</a>
                ),
              ],
              ["Costs", runner.rateMicros > 0n && `${rate(runner.rateMicros)} of training`],
              ["Last contact", runner.connected ? "connected now" : <Ago ms={Number(runner.lastContactAtMs)} />],
              ["Agent", runner.agentVersion],
              [
                "Labels",
                Object.entries(runner.labels)
                  .map(([key, value]) => `${key}=${value}`)
                  .join(", "),
              ],
              ["Created", moment(Number(runner.createdAtMs))],
              ["Id", <code>{runner.runnerId}</code>],
            ]}
          />
        </Card>
      </div>
    </>
  );
}

function Hardware({ runner }: { runner: Runner }) {
  const box = runner.inventory;
  if (box === undefined) return <p class="quiet">Known once the box connects.</p>;
  return (
    <Facts
      of={[
        ["GPUs", gpus(box)],
        ["VRAM", [...new Set(box.gpus.map((gpu) => `${size(gpu.vramBytes)} each`))].join(" + ")],
        ["Compute capability", [...new Set(box.gpus.map((gpu) => gpu.computeCapability))].filter(Boolean).join(", ")],
        ["Driver", box.driverVersion],
        ["CPU", `${box.cpuCores} cores, ${size(box.cpuRamBytes)} RAM`],
        ["Disk", box.diskTotalBytes > 0n && `${size(box.diskFreeBytes)} free of ${size(box.diskTotalBytes)}`],
        ["Host", [box.hostname, box.platform].filter(Boolean).join(", ")],
      ]}
    />
  );
}

/** The runner of an answer, but not as it was before it left the list: it may have been connected then. */
function answered(answer: { gone: boolean; runner?: Runner } | undefined, gone: boolean) {
  return answer?.gone === gone || answer?.runner?.uninstalled ? answer.runner : undefined;
}

function suspension(one: Suspension): string {
  const until = one.untilMs > 0n ? ` until ${moment(Number(one.untilMs))}` : "";
  return `Suspended by ${suspender(one.owner)}${until}${one.reason ? `: ${one.reason}` : ""}`;
}
