// The form of ResumeJob, and what may be chosen in it. Pure.
import { create } from "@bufbuild/protobuf";
import { RunnerStatus } from "../../gen/protos/events/v1/runner_pb";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { type Checkpoint, type Limits, LimitsSchema } from "../../gen/protos/training/v1/training_pb";
import { runnerState } from "../../states";
import { numberOf, problemOf } from "../run/numbers";

/** Limits as they are typed; empty: none of that kind. */
export interface Typed {
  readonly epochs: string;
  readonly steps: string;
  readonly minutes: string;
  readonly patience: string;
  readonly retries: string;
}

const RANGE = { min: 0, max: 2_147_483_647, whole: true };

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
  return problemOf(text, RANGE, "for no limit of this kind");
}

/** The limits to send; undefined: they are the earlier job's, which need not be sent. */
export function changed(form: Typed, earlier: Limits | undefined): Limits | undefined {
  const before = typed(earlier);
  if ((Object.keys(before) as (keyof Typed)[]).every((name) => numberOf(form[name]) === numberOf(before[name]))) return;
  return create(LimitsSchema, {
    // What the form does not show stays as it was.
    stallMinutes: earlier?.stallMinutes,
    stopWhenStalled: earlier?.stopWhenStalled,
    epochs: numberOf(form.epochs),
    steps: BigInt(numberOf(form.steps)),
    minutes: numberOf(form.minutes),
    earlyStoppingPatience: numberOf(form.patience),
    retries: numberOf(form.retries),
  });
}

/** Which limit the checkpoint has reached already, as a sentence; empty: there is something left to train. */
export function reached(form: Typed, checkpoint: Checkpoint | undefined): string {
  if (checkpoint === undefined) return "";
  const told = (kind: string, done: number | bigint, limit: string) =>
    `The checkpoint is at ${kind} ${done} of ${limit} already: raise the limit, or there is nothing left to train.`;
  if (form.steps !== "" && checkpoint.step >= numberOf(form.steps)) return told("step", checkpoint.step, form.steps);
  if (form.epochs !== "" && checkpoint.epoch >= numberOf(form.epochs))
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
