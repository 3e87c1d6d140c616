// Training Settings between the form, the request and what is remembered for the next time. Pure.
import { create } from "@bufbuild/protobuf";
import { type SubmitJobRequest, SubmitJobRequestSchema } from "../../gen/protos/scheduler/v1/job_pb";
import { CheckpointPolicy, type TrainingSpec } from "../../gen/protos/training/v1/training_pb";
import { labelsOf } from "./fit";
import { numberOf, type Problems, problemOf, type Range, textOf } from "./numbers";

const NEVER = -1;
export const DEFAULT_STALL_MINUTES = 30;

/** Where a training is to run: `runner:<id>` now, `queue:<id>` when that one is free, `any`; empty: not chosen yet. */
export type Where = "" | "any" | `runner:${string}` | `queue:${string}`;

export interface RunForm {
  readonly name: string;
  readonly evaluationIntervalSteps: string;
  readonly policy: CheckpointPolicy;
  readonly everyNEvaluations: string;
  readonly keepBest: string;
  readonly advanced: boolean;
  readonly confusionMatrix: boolean;
  readonly epochs: string;
  readonly steps: string;
  readonly minutes: string;
  readonly earlyStoppingPatience: string;
  readonly retries: string;
  readonly stallMinutes: string;
  readonly neverStalled: boolean;
  readonly stopWhenStalled: boolean;
  readonly where: Where;
  readonly labels: string;
}

export const FIRST_TIME: RunForm = {
  name: "",
  evaluationIntervalSteps: "",
  policy: CheckpointPolicy.BEST_METRIC,
  everyNEvaluations: "",
  keepBest: "",
  advanced: false,
  // Free of charge, and what most people ask for afterwards.
  confusionMatrix: true,
  epochs: "",
  steps: "",
  minutes: "",
  earlyStoppingPatience: "",
  retries: "",
  stallMinutes: "",
  neverStalled: false,
  stopWhenStalled: false,
  where: "",
  labels: "",
};

type NumberKey = (typeof NUMBERS)[number]["key"];

/** As the platform's scheduler checks them. */
const NUMBERS = [
  { key: "evaluationIntervalSteps", field: "checkpoint_strategy.evaluation_interval_steps", max: 10_000_000 },
  { key: "everyNEvaluations", field: "checkpoint_strategy.every_n_evaluations", max: 10_000 },
  { key: "keepBest", field: "checkpoint_strategy.keep_best", max: 100 },
  { key: "epochs", field: "limits.epochs", max: 100_000 },
  { key: "steps", field: "limits.steps", max: 1_000_000_000 },
  { key: "minutes", field: "limits.minutes", max: 100_000 },
  { key: "earlyStoppingPatience", field: "limits.early_stopping_patience", max: 10_000 },
  { key: "retries", field: "limits.retries", max: 20 },
  { key: "stallMinutes", field: "limits.stall_minutes", max: 10_000 },
] as const;

export const POLICIES: readonly { readonly policy: CheckpointPolicy; readonly label: string; readonly what: string }[] =
  [
    {
      policy: CheckpointPolicy.BEST_METRIC,
      label: "Best metric",
      what: "Keeps the best by the task's metric (accuracy, mAP, mIoU), and the newest.",
    },
    {
      policy: CheckpointPolicy.LOWEST_VALIDATION_LOSS,
      label: "Lowest validation loss",
      what: "Keeps those with the lowest validation loss, and the newest.",
    },
    {
      policy: CheckpointPolicy.LATEST,
      label: "Always the latest",
      what: "Saves after every evaluation and keeps only the newest.",
    },
    {
      policy: CheckpointPolicy.EVERY_N_EVALUATIONS,
      label: "Every N evaluations",
      what: "Saves after every n-th evaluation and keeps all of them.",
    },
  ];

/** Whether the policy keeps the best few, and so wants to know how many. */
export function keepsBest(policy: CheckpointPolicy): boolean {
  return policy === CheckpointPolicy.BEST_METRIC || policy === CheckpointPolicy.LOWEST_VALIDATION_LOSS;
}

/** What the form asks for, as SubmitJob takes it, of a saved workflow. */
export function requestOf(form: RunForm, workflowId: string, requestId: string): SubmitJobRequest {
  const [kind, runnerId = ""] = form.where.split(":", 2);
  return create(SubmitJobRequestSchema, {
    requestId,
    name: form.name.trim(),
    workflowId,
    runnerId,
    labels: kind === "any" ? (labelsOf(form.labels) ?? {}) : {},
    queue: kind !== "runner",
    checkpointStrategy: {
      evaluationIntervalSteps: numberOf(form.evaluationIntervalSteps),
      policy: form.policy,
      everyNEvaluations: form.policy === CheckpointPolicy.EVERY_N_EVALUATIONS ? numberOf(form.everyNEvaluations) : 0,
      keepBest: keepsBest(form.policy) ? numberOf(form.keepBest) : 0,
    },
    advancedEvaluation: { enabled: form.advanced, confusionMatrix: form.confusionMatrix },
    limits: {
      epochs: numberOf(form.epochs),
      steps: BigInt(Math.trunc(numberOf(form.steps))),
      minutes: numberOf(form.minutes),
      earlyStoppingPatience: numberOf(form.earlyStoppingPatience),
      retries: numberOf(form.retries),
      stallMinutes: form.neverStalled ? NEVER : numberOf(form.stallMinutes),
      stopWhenStalled: form.stopWhenStalled && !form.neverStalled,
    },
  });
}

/** The settings of an earlier training, to run another with the same; where it ran is not among them. */
export function settingsOf(spec: TrainingSpec): RunForm {
  const { checkpointStrategy: strategy, advancedEvaluation: evaluation, limits } = spec;
  const stall = limits?.stallMinutes ?? 0;
  return {
    ...FIRST_TIME,
    evaluationIntervalSteps: textOf(strategy?.evaluationIntervalSteps ?? 0),
    policy: strategy?.policy || CheckpointPolicy.BEST_METRIC,
    everyNEvaluations: textOf(strategy?.everyNEvaluations ?? 0),
    keepBest: textOf(strategy?.keepBest ?? 0),
    advanced: evaluation?.enabled ?? false,
    confusionMatrix: evaluation?.confusionMatrix ?? false,
    epochs: textOf(limits?.epochs ?? 0),
    steps: textOf(limits?.steps ?? 0n),
    minutes: textOf(limits?.minutes ?? 0),
    earlyStoppingPatience: textOf(limits?.earlyStoppingPatience ?? 0),
    retries: textOf(limits?.retries ?? 0),
    stallMinutes: stall === NEVER || stall === DEFAULT_STALL_MINUTES ? "" : textOf(stall),
    neverStalled: stall === NEVER,
    stopWhenStalled: limits?.stopWhenStalled ?? false,
  };
}

/** What makes no sense, by the platform's name of the field. Fields that are not shown are not looked at. */
export function problemsOf(form: RunForm): Problems {
  const found: Record<string, string> = {};
  const hidden: Partial<Record<NumberKey, boolean>> = {
    everyNEvaluations: form.policy !== CheckpointPolicy.EVERY_N_EVALUATIONS,
    keepBest: !keepsBest(form.policy),
    stallMinutes: form.neverStalled,
  };
  for (const { key, field, max } of NUMBERS) {
    const range: Range = { min: 1, max, whole: true };
    const problem = hidden[key] ? "" : problemOf(form[key], range, EMPTY[key] ?? "for none");
    if (problem) found[field] = problem;
  }
  if (form.name.trim().length > 100) found.name = "A name has at most 100 characters.";
  if (form.where === "any" && labelsOf(form.labels) === undefined)
    found.labels = "Labels have the form key=value, separated by commas.";
  return found;
}

const EMPTY: Partial<Record<NumberKey, string>> = {
  evaluationIntervalSteps: "for once an epoch",
  everyNEvaluations: "for every one",
  keepBest: "for one",
  stallMinutes: `for ${DEFAULT_STALL_MINUTES}`,
};

/** What is kept for the next time: not the name, which is of one training. */
export function remembered(form: RunForm): string {
  return JSON.stringify({ ...form, name: "" });
}

/** What was kept, as far as it can be used: it may be of another version, or changed by hand. */
export function recalled(text: string | null): RunForm {
  let stored: unknown;
  try {
    stored = JSON.parse(text ?? "{}");
  } catch {
    return FIRST_TIME;
  }
  if (typeof stored !== "object" || stored === null) return FIRST_TIME;
  const known = Object.entries(stored).filter(
    ([key, value]) => key in FIRST_TIME && typeof value === typeof FIRST_TIME[key as keyof RunForm],
  );
  const form = { ...FIRST_TIME, ...Object.fromEntries(known), name: "" } as RunForm;
  const policy = POLICIES.some((one) => one.policy === form.policy) ? form.policy : FIRST_TIME.policy;
  const where = /^(any|(runner|queue):[^:]+)?$/.test(form.where) ? form.where : "";
  return { ...form, policy, where };
}
