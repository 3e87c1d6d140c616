import { useEffect, useRef } from "preact/hooks";
import { clockTime, duration } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { isCutOff, isOver } from "../../states";
import { now } from "../../time";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import css from "./training.module.css";
import { atDeadline, stalled } from "./why";

/** What stands out while a training runs: that it is cut off, with the time that is left, or that it does not get on. */
export function Banner({ job }: { job: Job }) {
  useHeardAgain(job);
  if (isCutOff(job)) return <CutOff job={job} />;
  if (job.stalledSinceMs > 0n && !isOver(job))
    return (
      <Note tone="warn">
        <strong>
          Stalled<span aria-hidden="true">: {stalled(job, now.value)}</span>.
        </strong>{" "}
        The training process lives, but makes no optimiser step.{" "}
        {job.spec?.limits?.stopWhenStalled
          ? "It is being stopped, as its settings ask for."
          : "Its minutes count; look at the logs, and stop it if it hangs."}
      </Note>
    );
  return null;
}

function CutOff({ job }: { job: Job }) {
  const deadline = Number(job.deadlineAtMs);
  const since = Number(job.lastContactAtMs);
  const left = deadline - now.value;
  return (
    <section class={css.cutOff} aria-label="This training is cut off">
      <div class={css.countdown} role="timer" aria-label={`${duration(left)} left`}>
        {duration(left)}
      </div>
      <div>
        <p class={css.cutOffTitle}>
          ⚠ Cut off{since > 0 && ` since ${clockTime(since)}, for ${duration(now.value - since)}`}
        </p>
        <p>
          {left > 0
            ? atDeadline(job)
            : "The time is over: the training has ended itself. The platform says so once it can be sure, or when the box is heard again."}
        </p>
        {job.message && <p class="quiet">{job.message}</p>}
      </div>
    </section>
  );
}

/** Says for how long it was cut off, once it is heard again. */
function useHeardAgain(job: Job): void {
  const before = useRef(job);
  useEffect(() => {
    const was = before.current;
    before.current = job;
    if (was.jobId !== job.jobId || !isCutOff(was) || isCutOff(job) || isOver(job)) return;
    say(`${job.name} is heard again; it was cut off for ${duration(now.peek() - Number(was.lastContactAtMs))}.`);
  }, [job]);
}
