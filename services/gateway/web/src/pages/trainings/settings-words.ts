// What a training was made of, as pairs of a name and what was chosen. Pure.
import { count, words } from "../../format";
import type { Limits, TrainingSpec } from "../../gen/protos/training/v1/training_pb";
import {
  CheckpointPolicy,
  Optimizer,
  Precision,
  Schedule,
  Task,
  WeightsSource,
} from "../../gen/protos/training/v1/training_pb";

type Pair = readonly [string, string];

/** `20 epochs or 60 minutes`. */
export function limitWords(limits: Limits | undefined): string {
  const ends = [
    [limits?.epochs ?? 0, "epoch"],
    [limits?.steps ?? 0n, "step"],
    [limits?.minutes ?? 0, "minute"],
  ] as const;
  return ends
    .filter(([number]) => number > 0)
    .map(([number, unit]) => count(number, unit))
    .join(" or ");
}

/** Settings of a job; those that say nothing have an empty text. */
export function settings(spec: TrainingSpec): Pair[] {
  const { limits, checkpointStrategy: strategy } = spec;
  const every = strategy?.evaluationIntervalSteps ?? 0;
  const extra = [
    spec.advancedEvaluation?.enabled && "advanced evaluation (minutes × 1.5)",
    spec.advancedEvaluation?.confusionMatrix && "confusion matrix",
  ].filter(Boolean);
  return [
    ["Workflow", spec.workflowId && `${spec.workflowName || spec.workflowId}, revision ${spec.workflowRevision}`],
    ["Dataset", spec.dataset ? `${spec.dataset.name} (${spec.dataset.location})` : ""],
    [
      "Architecture",
      spec.architecture ? `${spec.architecture.architectureId}, ${words(Task, spec.architecture.task)}` : "",
    ],
    ["Until", until(limits)],
    ["Repeats", limits?.retries ? `up to ${limits.retries}, where the box lets it down` : ""],
    ["Begins with", begins(spec)],
    [
      "Checkpoints",
      `${words(CheckpointPolicy, strategy?.policy || CheckpointPolicy.BEST_METRIC)}, evaluated ${every > 0 ? `every ${count(every, "step")}` : "each epoch"}`,
    ],
    ["Evaluation", extra.join(", ")],
    ["Augmentations", augmentations(spec)],
    ...hyperparameters(spec),
  ];
}

function until(limits: Limits | undefined): string {
  const patience = limits?.earlyStoppingPatience ?? 0;
  return [
    limitWords(limits),
    patience > 0 ? `${count(patience, "evaluation")} without improvement` : "",
    limits?.stopWhenStalled ? `${count(limits.stallMinutes || 30, "minute")} without a step` : "",
  ]
    .filter(Boolean)
    .join(", or ");
}

function begins({ resumeFrom, weights }: TrainingSpec): string {
  if (resumeFrom?.jobId) return `step ${resumeFrom.step} of an earlier training (${resumeFrom.checkpoint})`;
  switch (weights?.source) {
    case WeightsSource.CHECKPOINT:
      return `weights of ${weights.checkpoint?.name || "the best checkpoint"} of an earlier training`;
    case WeightsSource.PRETRAINED:
      return `pretrained weights ${weights.name}`.trim();
    case WeightsSource.RANDOM:
      return "random weights";
    default:
      return "";
  }
}

function augmentations({ augmentations: some }: TrainingSpec): string {
  if (some === undefined) return "";
  const found = Object.entries(some)
    .filter(([name, value]) => !name.startsWith("$") && typeof value === "number" && value !== 0)
    .map(
      ([name, value]) =>
        `${spaced(name)} ${Number(value)
          .toPrecision(3)
          .replace(/\.?0+$/, "")}`,
    );
  return found.join(", ") || "none";
}

function hyperparameters({ hyperparameters: some }: TrainingSpec): Pair[] {
  if (some === undefined) return [];
  const number = (value: number) => (value === 0 ? "" : String(value));
  return [
    ["Batch size", some.batchSize === -1 ? "auto" : number(some.batchSize)],
    ["Image size", some.imageSize > 0 ? `${some.imageSize} pixels` : ""],
    ["Learning rate", number(some.learningRate)],
    ["Weight decay", String(some.weightDecay)],
    ["Optimizer", some.optimizer ? words(Optimizer, some.optimizer) : ""],
    ["Schedule", some.schedule ? words(Schedule, some.schedule) : ""],
    ["Precision", some.precision ? words(Precision, some.precision) : ""],
    ["Parts of a batch", some.accumulateBatches > 1 ? String(some.accumulateBatches) : ""],
    ["Gradient clipping", some.gradientClipNorm < 0 ? "never" : number(some.gradientClipNorm)],
    ["Validation share", number(some.validationShare)],
    ["Seed", String(some.seed)],
  ];
}

function spaced(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
