import { useRoute } from "preact-iso";
import { runners as api, call } from "../../api/clients";
import { mayAdmin } from "../../api/session";
import { ago, gpus, moment, rate, size } from "../../format";
import { SuspensionOwner } from "../../gen/protos/events/v1/runner_pb";
import type { Runner, Suspension } from "../../gen/protos/scheduler/v1/runner_pb";
import { liveJobs, runners } from "../../live/stores";
import { cutOff, runnerState } from "../../states";
import { now } from "../../time";
import { ButtonLink } from "../../ui/button";
import { Card, Facts, Head } from "../../ui/layout";
import { Empty, Failed, Loading, Note, Simulated, StateBadge } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { RunnerActions } from "./actions";
import css from "./runners.module.css";

/** One runner: what it has, what it does, who keeps it suspended. */
export default function RunnerPage() {
  const id = useRoute().params.id ?? "";
  // One that was uninstalled is in no list, but its page still answers.
  const asked = useAsked((signal) => api.getRunner({ runnerId: id }, call(signal)), [id]);
  const runner = runners.value?.get(id) ?? asked.value?.runner;
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
      <Head title={runner.name} actions={mayAdmin.value && !runner.uninstalled && <RunnerActions runner={runner} />}>
        <StateBadge state={runnerState(runner)} more={cutOff(runner.deadlineAtMs, now.value)} />{" "}
        {runner.inventory?.simulated && <Simulated />}
      </Head>
      {asked.problem && runners.value === undefined && <Failed retry={asked.reload}>{asked.problem}</Failed>}
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
              ["Last contact", runner.connected ? "connected now" : ago(Number(runner.lastContactAtMs), now.value)],
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

const OWNERS: Record<number, string> = {
  [SuspensionOwner.BOX_OWNER]: "the owner of the box",
  [SuspensionOwner.ADMIN]: "an admin",
  [SuspensionOwner.HEALTH]: "a health check",
};

function suspension(one: Suspension): string {
  const until = one.untilMs > 0n ? ` until ${moment(Number(one.untilMs))}` : "";
  return `Suspended by ${OWNERS[one.owner] ?? "somebody"}${until}${one.reason ? `: ${one.reason}` : ""}`;
}
