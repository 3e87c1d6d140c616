// How far a training is, and what it has cost by its own record; the command line tells the same (services/cli). Pure.
import { chargedMilliminutes } from "../../format";
import type { ChargedInterval } from "../../gen/protos/events/v1/job_pb";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { isCutOff, isOver } from "../../states";
import type { Curves } from "./curves";

/** What the curves tell of the progress. */
export interface Seen {
  /** The newest step; zero before the first. */
  readonly step: number;
  /** Step of the first evaluation; zero before it. */
  readonly firstEvaluation: number;
}

export const NOTHING_SEEN: Seen = { step: 0, firstEvaluation: 0 };

export function seenIn(curves: Curves): Seen {
  return {
    step: curves.all.get("train/loss")?.steps.at(-1) ?? 0,
    firstEvaluation: curves.all.get("validation/loss")?.steps[0] ?? 0,
  };
}

/** The newest step that is known; zero before the first. */
export function stepOf(job: Job, seen: Seen): number {
  const resumed = Number(job.spec?.resumeFrom?.step ?? 0n);
  return Math.max(seen.step, Number(job.evaluatedStep), Number(job.steps), resumed);
}

/** Known from the first evaluation or checkpoint on; zero before. */
export function stepsPerEpoch(job: Job, seen: Seen): number {
  const epochs = job.checkpoints.filter((one) => one.epoch > 0);
  if ((job.spec?.checkpointStrategy?.evaluationIntervalSteps ?? 0) > 0)
    return Math.max(0, ...epochs.map((one) => Math.ceil(Number(one.step) / one.epoch)));
  if (seen.firstEvaluation > 0 && !job.spec?.resumeFrom) return seen.firstEvaluation;
  return Math.max(0, ...epochs.map((one) => Math.floor(Number(one.step) / one.epoch)));
}

/** Steps after which it ends; zero while that is not known. */
export function totalSteps(job: Job, seen: Seen): number {
  const perEpoch = stepsPerEpoch(job, seen);
  const limits = job.spec?.limits;
  const ends = [Number(limits?.steps ?? 0n), (limits?.epochs ?? 0) * perEpoch].filter((end) => end > 0);
  // With an epoch limit of unknown length the steps alone do not tell the end.
  return ends.length > 0 && (perEpoch > 0 || !limits?.epochs) ? Math.min(...ends) : 0;
}

/** What counts towards the limit of minutes; of a job that it goes on from, what had been trained there too. */
function trainedMs(job: Job, nowMs: number): number {
  const { start, until } = ends(job.interval, nowMs);
  return Number(job.spec?.resumeFrom?.trainedMs ?? 0n) + Math.max(until - start, 0);
}

/** 0 to 1, by whichever limit is nearer; undefined while it cannot be told. */
export function shareDone(job: Job, seen: Seen, nowMs: number): number | undefined {
  if (job.state === JobState.FINISHED) return 1;
  const total = totalSteps(job, seen);
  const minutes = job.spec?.limits?.minutes ?? 0;
  const shares = [
    ...(total > 0 ? [stepOf(job, seen) / total] : []),
    ...(minutes > 0 ? [trainedMs(job, nowMs) / (minutes * 60_000)] : []),
  ];
  return shares.length > 0 ? Math.min(Math.max(...shares), 1) : undefined;
}

/** About how long it will still take; undefined while too little is done to tell. */
export function leftMs(job: Job, seen: Seen, nowMs: number): number | undefined {
  const share = shareDone(job, seen, nowMs);
  const trained = trainedMs(job, nowMs);
  if (share === undefined || share < 0.02 || trained < 2000) return undefined;
  if (job.state !== JobState.RUNNING || isCutOff(job)) return undefined;
  return Math.round((trained * (1 - share)) / share);
}

/** Where the time of a job went. Only the training is charged. */
export interface Phases {
  /** In the queue. */
  readonly waitingMs: number;
  /** Checks and downloads on the box. */
  readonly preparingMs: number;
  readonly trainingMs: number;
  /** Saving a checkpoint after its stop began. */
  readonly savingMs: number;
}

/** Of several attempts the training and saving are summed up; what lies between them counts as waiting. */
export function phases(job: Job, nowMs: number): Phases {
  const intervals = [...job.earlierAttempts.map((one) => one.interval), job.interval];
  const training = intervals.reduce((sum, one) => sum + chargedMs(one, nowMs), 0);
  const saving = intervals.reduce((sum, one) => {
    const { end, until } = ends(one, nowMs);
    return sum + Math.max(end - until, 0);
  }, 0);
  const submitted = Number(job.submittedAtMs);
  const assigned = Number(job.assignedAtMs);
  const last = ends(job.interval, nowMs);
  const over = isOver(job);
  const end = last.end || (over ? assigned || submitted : nowMs);
  const earlier = intervals.slice(0, -1).reduce((sum, one) => {
    const found = ends(one, nowMs);
    return sum + Math.max(found.end - found.start, 0);
  }, 0);
  const begun = last.start || end;
  const queued = job.state === JobState.QUEUED || assigned === 0;
  const preparing = queued ? 0 : Math.max(begun - assigned, 0);
  const waiting = Math.max((queued ? (over ? submitted : nowMs) : assigned) - submitted - earlier, 0);
  return { waitingMs: waiting, preparingMs: preparing, trainingMs: training, savingMs: saving };
}

function ends(interval: ChargedInterval | undefined, nowMs: number): { start: number; until: number; end: number } {
  const start = Number(interval?.startedAtMs ?? 0n);
  if (start === 0) return { start: 0, until: 0, end: 0 };
  const until = Number(interval?.chargedUntilMs ?? 0n) || nowMs;
  return { start, until, end: Number(interval?.endedAtMs ?? 0n) || Math.max(until, start) };
}

function chargedMs(interval: ChargedInterval | undefined, nowMs: number): number {
  const { start, until } = ends(interval, nowMs);
  return Math.max(until - start, 0);
}

/** Compute minutes × 1000 of all attempts by the job's own record; one that is cut off is charged until its deadline. */
export function chargedByRecord(job: Job, nowMs: number): bigint {
  const deadline = Number(job.deadlineAtMs);
  const until = deadline > 0 ? Math.min(nowMs, deadline) : nowMs;
  let msMicros = BigInt(Math.round(chargedMs(job.interval, until))) * job.rateMicros;
  for (const one of job.earlierAttempts)
    msMicros += BigInt(Math.round(chargedMs(one.interval, until))) * one.rateMicros;
  return chargedMilliminutes(msMicros);
}

/** What was charged at a moment, and what has come to it since while the training runs. */
export function accrued(milliminutes: bigint, asOfMs: number, job: Job, nowMs: number): bigint {
  if (isOver(job) || !job.interval?.startedAtMs || job.interval.chargedUntilMs > 0n) return milliminutes;
  const deadline = Number(job.deadlineAtMs);
  const until = deadline > 0 ? Math.min(nowMs, deadline) : nowMs;
  const ms = BigInt(Math.max(Math.round(until - asOfMs), 0));
  return milliminutes + chargedMilliminutes(ms * job.rateMicros);
}
