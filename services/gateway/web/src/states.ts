// Symbols and words of states; colours never tell anything alone.
import { duration, words } from "./format";
import { RunnerStatus, SuspensionOwner } from "./gen/protos/events/v1/runner_pb";
import { type Job, JobState } from "./gen/protos/scheduler/v1/job_pb";
import type { Runner } from "./gen/protos/scheduler/v1/runner_pb";
import { EndReason } from "./gen/protos/training/v1/training_pb";

export type Tone = "good" | "warn" | "bad" | "busy" | "quiet";

export interface State {
  /** A character, or the colour of a dot: not every machine has a font with 🟢. */
  readonly symbol: string;
  readonly label: string;
  readonly tone: Tone;
}

const RUNNERS: Record<number, State> = {
  [RunnerStatus.ONLINE]: { symbol: "green", label: "ONLINE", tone: "good" },
  [RunnerStatus.SUSPENDED]: { symbol: "orange", label: "SUSPENDED", tone: "warn" },
  [RunnerStatus.OCCUPIED]: { symbol: "red", label: "OCCUPIED", tone: "bad" },
  [RunnerStatus.OFFLINE]: { symbol: "black", label: "OFFLINE", tone: "quiet" },
};

const JOBS: Record<number, State> = {
  [JobState.QUEUED]: { symbol: "◌", label: "QUEUED", tone: "warn" },
  [JobState.ASSIGNED]: { symbol: "◔", label: "STARTING", tone: "busy" },
  [JobState.RUNNING]: { symbol: "●", label: "RUNNING", tone: "good" },
  [JobState.STOPPING]: { symbol: "◑", label: "STOPPING", tone: "warn" },
  [JobState.FINISHED]: { symbol: "✔", label: "FINISHED", tone: "good" },
  [JobState.FAILED]: { symbol: "✘", label: "FAILED", tone: "bad" },
  [JobState.KILLED]: { symbol: "■", label: "KILLED", tone: "quiet" },
};

const OWNERS: Readonly<Record<number, string>> = {
  [SuspensionOwner.BOX_OWNER]: "the owner of the box",
  [SuspensionOwner.ADMIN]: "an admin",
  [SuspensionOwner.HEALTH]: "a health check",
};

const UNKNOWN: State = { symbol: "?", label: "UNKNOWN", tone: "quiet" };

export const runnerState = (runner: Runner): State => RUNNERS[runner.status] ?? UNKNOWN;
/** Who keeps a runner suspended. */
export const suspender = (owner: SuspensionOwner): string => OWNERS[owner] ?? "somebody";
export const jobState = (job: Job): State => JOBS[job.state] ?? UNKNOWN;

export function isOver(job: Job): boolean {
  return [JobState.FINISHED, JobState.FAILED, JobState.KILLED].includes(job.state);
}

/** Cut off: still training, as far as anyone can know, until the deadline at the latest. */
export function isCutOff(job: Job): boolean {
  return job.deadlineAtMs > 0n && [JobState.ASSIGNED, JobState.RUNNING, JobState.STOPPING].includes(job.state);
}

/** `cut off · 12:31 left`; empty where it is reachable. */
export function cutOff(deadlineAtMs: bigint, nowMs: number): string {
  return deadlineAtMs > 0n ? `cut off · ${duration(Number(deadlineAtMs) - nowMs)} left` : "";
}

/** `attempt 2 of 3`, `waits for attempt 2 of 3`; empty for the first, which most jobs finish in. */
export function attempt(job: Job): string {
  const of = (job.spec?.limits?.retries ?? 0) + 1;
  if (job.state === JobState.QUEUED && job.attempt > 0) return `waits for attempt ${job.attempt + 1} of ${of}`;
  return job.attempt > 1 ? `attempt ${job.attempt} of ${of}` : "";
}

/** `connection lost`, `stopped by person`; empty where there is none. */
export function reason(value: EndReason): string {
  return value === EndReason.UNSPECIFIED ? "" : words(EndReason, value);
}
