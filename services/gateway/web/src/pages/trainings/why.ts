// Why a training is as it is, in one sentence. Pure.
import { byImportance, count, duration, integer, metric, metricName } from "../../format";
import type { ExplainChargeResponse } from "../../gen/protos/quota/v1/quota_pb";
import { ExplainedInterval_Kind } from "../../gen/protos/quota/v1/quota_pb";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { EndReason } from "../../gen/protos/training/v1/training_pb";
import { reason } from "../../states";

/** `Finished after 264 steps in 12 epochs.`, `Killed, connection lost: the box was not heard of again.` */
export function outcome(job: Job): string {
  const done = `${count(job.steps, "step")}${job.epochs > 0 ? ` in ${count(job.epochs, "epoch")}` : ""}`;
  if (job.state === JobState.FINISHED) return `Finished after ${done}.`;
  const begin = job.state === JobState.FAILED ? "Failed" : "Killed";
  const what = job.reason === EndReason.STOPPED_BY_PERSON ? "stopped by a person" : reason(job.reason);
  // Of a person who gave no reason the message tells nothing more.
  const message = job.message === what ? "" : job.message;
  const after = job.steps > 0n ? ` after ${count(job.steps, "step")}` : "";
  return stop([`${begin}${after}${what && `, ${what}`}`, message].filter(Boolean).join(": "));
}

/** What the end rests on where the box did not tell it, or told it late; empty where nothing is special. */
export function doubts(job: Job, explained: ExplainChargeResponse | undefined): string[] {
  const presumed =
    job.interval?.presumed === true ||
    explained?.attempts.some((attempt) =>
      attempt.intervals.some((one) => one.kind === ExplainedInterval_Kind.PRESUMED),
    );
  const corrected = explained?.attempts.some((attempt) => attempt.corrected.length > 0) === true;
  return [
    ...(presumed
      ? [
          "The box was not heard of again: the end is presumed, and charged to the end of the window at most. When the box speaks again, the truth replaces it.",
        ]
      : []),
    ...(corrected ? ["The box told later what really happened; outcome and minutes were corrected."] : []),
  ];
}

/** What happens at the deadline of a training that is cut off. */
export function atDeadline(job: Job): string {
  const why =
    job.reason === EndReason.SECRET_KEY_REGENERATED
      ? "Its secret key was regenerated: give the box the new one (tether-runner reauth) and it goes on."
      : "The training goes on meanwhile, as far as anyone can know, and its minutes count.";
  return `${why} If the box is not heard again by then, the training ends itself and saves a checkpoint.`;
}

/** `no step for 34:02`; empty while it gets on. */
export function stalled(job: Job, nowMs: number): string {
  return job.stalledSinceMs > 0n ? `no step for ${duration(nowMs - Number(job.stalledSinceMs))}` : "";
}

/** `accuracy 0.9833`: the metric of the last evaluation that tells most, as the command line has it. Empty without one. */
export function lastMetric(job: Job): string {
  return told(job.metrics);
}

/** `best mAP 0.8379 at step 638`: of the best checkpoint, where a later evaluation was not as good. */
export function bestMetric(job: Job): string {
  const best = job.checkpoints.find((one) => one.best);
  if (best === undefined || best.step === job.evaluatedStep || told(best.metrics) === "") return "";
  return `best ${told(best.metrics)} at step ${integer(best.step)}`;
}

function told(metrics: Record<string, number>): string {
  const name = byImportance(Object.keys(metrics))[0];
  return name === undefined ? "" : `${metricName(name)} ${metric(metrics[name] ?? Number.NaN)}`;
}

function stop(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
