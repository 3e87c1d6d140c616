// The form of ResumeJob, and what may be chosen in it. Pure.
import { create } from "@bufbuild/protobuf";
import { RunnerStatus } from "../../gen/protos/events/v1/runner_pb";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { type Checkpoint, type Limits, LimitsSchema } from "../../gen/protos/training/v1/training_pb";
import { runnerState } from "../../states";

/** Limits as they are typed; empty: none of that kind. */
export interface Typed {
  readonly epochs: string;
  readonly steps: string;
  readonly minutes: string;
  readonly patience: string;
  readonly retries: string;
}

const LARGEST = 2_147_483_647;

export function typed(limits: Limits | undefined): Typed {
  const text = (value: number | bigint | undefined) => (value ? String(value) : "");
  return {
    epochs: text(limits?.epochs),
    steps: text(limits?.steps),
    minutes: text(limits?.minutes),
    patience: text(limits?.earlyStoppingPatience),
    retries: text(limits?.retries),
  };
}

/** What is wrong with a number as it is typed; empty: nothing. */
export function numberProblem(text: string): string {
  if (text === "") return "";
  if (!/^\d+$/.test(text)) return `${text} is no whole number; leave it empty for no limit of this kind`;
  return Number(text) > LARGEST ? `${text} is too large; at most ${LARGEST}` : "";
}

/** The limits to send; undefined: they are the earlier job's, which need not be sent. */
export function changed(form: Typed, earlier: Limits | undefined): Limits | undefined {
  const before = typed(earlier);
  if ((Object.keys(before) as (keyof Typed)[]).every((name) => Number(form[name]) === Number(before[name]))) return;
  return create(LimitsSchema, {
    // What the form does not show stays as it was.
    stallMinutes: earlier?.stallMinutes,
    stopWhenStalled: earlier?.stopWhenStalled,
    epochs: Number(form.epochs),
    steps: BigInt(form.steps || 0),
    minutes: Number(form.minutes),
    earlyStoppingPatience: Number(form.patience),
    retries: Number(form.retries),
  });
}

/** Which limit the checkpoint has reached already, as a sentence; empty: there is something left to train. */
export function reached(form: Typed, checkpoint: Checkpoint | undefined): string {
  if (checkpoint === undefined) return "";
  const told = (kind: string, done: number | bigint, limit: string) =>
    `The checkpoint is at ${kind} ${done} of ${limit} already: raise the limit, or there is nothing left to train.`;
  if (form.steps !== "" && checkpoint.step >= Number(form.steps)) return told("step", checkpoint.step, form.steps);
  if (form.epochs !== "" && checkpoint.epoch >= Number(form.epochs))
    return told("epoch", checkpoint.epoch, form.epochs);
  return "";
}

/** Why this runner cannot be chosen for a checkpoint; empty: it can. */
export function obstacle(runner: Runner, checkpoint: Checkpoint | undefined, queue: boolean): string {
  if (checkpoint !== undefined && checkpoint.artifactId === "" && checkpoint.runnerId !== runner.runnerId)
    return "cannot read the checkpoint, which lies on another box only";
  if (runner.status === RunnerStatus.ONLINE || queue) return "";
  const { label } = runnerState(runner);
  return `is ${label}; choose to wait in the queue for it`;
}
