import { useLocation } from "preact-iso";
import { call, jobs } from "../../api/clients";
import { mayWrite } from "../../api/session";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import type { Architecture } from "../../gen/protos/training/v1/training_pb";
import { liveJobs, newest } from "../../live/stores";
import { cutOff, jobState } from "../../states";
import { now } from "../../time";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { MoreIcon } from "../../ui/icons";
import { Menu } from "../../ui/menu";
import { StateBadge } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { taskName } from "./formats";
import { person } from "./people";
import css from "./workflows.module.css";

export function Heads() {
  return (
    <div class={`${css.row} ${css.heads}`} aria-hidden="true">
      <span>Workflow</span>
      <span>Dataset</span>
      <span>Architecture</span>
      <span>Revision</span>
      <span>Last training</span>
      <span />
    </div>
  );
}

interface Props {
  saved: SavedWorkflow;
  architectures: readonly Architecture[] | undefined;
  onRun: () => void;
  onDelete: () => void;
}

export function Row({ saved, architectures, onRun, onDelete }: Props) {
  const { route } = useLocation();
  const { workflowId = "", name = "", revision = 0, architectureId = "" } = saved.workflow ?? {};
  const architecture = architectures?.find((one) => one.architectureId === architectureId);
  return (
    <div class={css.row}>
      <div>
        <a class={css.name} href={`/workflows/${workflowId}`}>
          {name}
        </a>
      </div>
      <div class="break">{saved.datasetName}</div>
      <div class="break">
        {architectureId}
        {architecture && <div class={css.sub}>{taskName(architecture.task)}</div>}
      </div>
      <div>
        <span class={css.narrowOnly}>Revision </span>
        {revision}
        <div class={css.sub}>
          <Ago ms={Number(saved.revisedAtMs)} /> by {person(saved.revisedBy)}
        </div>
      </div>
      <div>
        <LastTraining workflowId={workflowId} />
      </div>
      <div class={css.rowActions}>
        {mayWrite.value && (
          <>
            <Button kind="run" small onClick={onRun}>
              Run<span class="visually-hidden"> {name}</span>
            </Button>
            <Menu
              label={`Actions for ${name}`}
              items={[
                { label: "Open", onChoose: () => route(`/workflows/${workflowId}`) },
                { label: "Duplicate", onChoose: () => route(`/workflows/new?from=${workflowId}`) },
                { label: "Delete…", onChoose: onDelete },
              ]}
            >
              <MoreIcon />
            </Menu>
          </>
        )}
      </div>
    </div>
  );
}

/** The newest training of a workflow, live while it is not over. Asked row by row: only rows in sight exist. */
function LastTraining({ workflowId }: { workflowId: string }) {
  const asked = useAsked(
    async (signal) => {
      const found = (await jobs.listJobs({ workflowId, pageSize: 1 }, call(signal))).jobs;
      return { job: found.find((one) => one.spec?.workflowId === workflowId) };
    },
    [workflowId],
  );
  const live = [...(liveJobs.value?.values() ?? [])].filter((one) => one.spec?.workflowId === workflowId);
  const known = asked.value?.job ? [newest(asked.value.job), ...live] : live;
  const last = known.reduce<Job | undefined>((a, b) => (a && a.submittedAtMs >= b.submittedAtMs ? a : b), undefined);
  if (last === undefined)
    return <span class="quiet">{asked.value ? "none yet" : asked.problem ? "not known" : "…"}</span>;
  return (
    <a href={`/trainings/${last.jobId}`} class={css.last}>
      <StateBadge state={jobState(last)} more={last.deadlineAtMs > 0n ? cutOff(last.deadlineAtMs, now.value) : ""} />
      <span class={css.sub}>
        <Ago ms={Number(last.submittedAtMs)} />
      </span>
    </a>
  );
}
