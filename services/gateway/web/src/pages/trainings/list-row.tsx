import { moment, span } from "../../format";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { attempt, cutOff, isCutOff, isOver, jobState, reason } from "../../states";
import { now } from "../../time";
import { Ago } from "../../ui/ago";
import { Simulated, StateBadge } from "../../ui/note";
import css from "./list.module.css";
import { phases } from "./progress";
import { lastMetric, stalled } from "./why";

interface TrainingRowProps {
  job: Job;
  chosen: boolean;
  /** As many are chosen as can be. */
  full: boolean;
  onChoose: (wanted: boolean) => void;
}

/** One training in the list. */
export function TrainingRow({ job, chosen, full, onChoose }: TrainingRowProps) {
  const spec = job.spec;
  return (
    <div class={css.row}>
      <label class={css.pick}>
        <input
          type="checkbox"
          checked={chosen}
          disabled={full && !chosen}
          onChange={(event) => onChoose(event.currentTarget.checked)}
        />
        <span class="visually-hidden">Choose {job.name} to compare</span>
      </label>
      <div>
        <StateBadge state={jobState(job)} />
        <Beside job={job} />
      </div>
      <div>
        <a class={css.name} href={`/trainings/${job.jobId}`}>
          {job.name}
        </a>
        <div class={css.sub}>
          {[spec?.architecture?.architectureId, spec?.dataset?.name].filter(Boolean).join(" on ")}
        </div>
      </div>
      <div class="break">
        {job.runnerId ? (
          <>
            <a href={`/runners/${job.runnerId}`}>{job.runnerName}</a> {job.simulated && <Simulated />}
          </>
        ) : (
          <span class="quiet">no runner</span>
        )}
      </div>
      <div class="number">{lastMetric(job) || <span class="quiet">none yet</span>}</div>
      <div>
        <Time job={job} />
      </div>
    </div>
  );
}

/** What there is to know of a state beside its word. */
function Beside({ job }: { job: Job }) {
  const parts = [
    attempt(job),
    isCutOff(job) && `⚠ ${cutOff(job.deadlineAtMs, now.value)}`,
    !isOver(job) && job.stalledSinceMs > 0n && `⚠ ${stalled(job, now.value)}`,
    job.state === JobState.QUEUED &&
      [job.queuePosition > 0 && `number ${job.queuePosition}`, job.waitingFor && `waits for ${job.waitingFor}`]
        .filter(Boolean)
        .join(", "),
    isOver(job) && reason(job.reason),
  ].filter(Boolean);
  return parts.length > 0 ? <div class={css.sub}>{parts.join(" · ")}</div> : null;
}

function Time({ job }: { job: Job }) {
  const started = Number(job.interval?.startedAtMs ?? 0n);
  const begun = started > 0 || job.earlierAttempts.length > 0;
  const at = isOver(job) ? 0 : now.value;
  return (
    <>
      <div class="number">{begun ? span(phases(job, at).trainingMs) : <span class="quiet">not started</span>}</div>
      <div class={css.sub} title={moment(started || Number(job.submittedAtMs))}>
        {started > 0 ? "started" : "submitted"} <Ago ms={started || Number(job.submittedAtMs)} />
      </div>
    </>
  );
}
