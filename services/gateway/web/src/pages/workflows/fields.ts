// What can be set in a workflow, with its range: as the platform's scheduler checks it, and as people call it.
import {
  type Architecture,
  type Augmentations,
  type Hyperparameters,
  Optimizer,
  Precision,
  Schedule,
} from "../../gen/protos/training/v1/training_pb";
import type { Range } from "../run/numbers";

export type HyperKey =
  | "batchSize"
  | "imageSize"
  | "learningRate"
  | "weightDecay"
  | "validationShare"
  | "accumulateBatches"
  | "autoBatchVramShare"
  | "gradientClipNorm";

export interface HyperField extends Range {
  readonly key: HyperKey;
  readonly label: string;
  readonly hint: string;
}

export const HYPERPARAMETERS: readonly HyperField[] = [
  {
    key: "batchSize",
    label: "Batch size",
    hint: "Images a step, over all GPUs.",
    min: 1,
    max: 65_536,
    whole: true,
  },
  { key: "learningRate", label: "Learning rate", hint: "At its peak.", min: 1e-9, max: 100 },
  {
    key: "imageSize",
    label: "Image size",
    hint: "Pixels in height and width.",
    min: 8,
    max: 4096,
    whole: true,
  },
  { key: "weightDecay", label: "Weight decay", hint: "Keeps weights small.", min: 1e-12, max: 10 },
  {
    key: "validationShare",
    label: "Validation share",
    hint: "Of the images, where the dataset is not split already.",
    min: 0.01,
    max: 0.9,
  },
  {
    key: "accumulateBatches",
    label: "Gradient accumulation",
    hint: "Parts in which a batch is computed, for less VRAM.",
    min: 1,
    max: 1024,
    whole: true,
  },
  {
    key: "autoBatchVramShare",
    label: "VRAM to fill",
    hint: "Share of a GPU's VRAM that the batch may take.",
    min: 0.05,
    max: 0.95,
  },
  {
    key: "gradientClipNorm",
    label: "Gradient clipping",
    hint: "Gradients are scaled down to this norm.",
    min: 1e-6,
    max: 1e6,
  },
];

const MORE: readonly HyperKey[] = ["accumulateBatches", "gradientClipNorm", "autoBatchVramShare"];

export function hyperField(key: HyperKey): HyperField {
  const found = HYPERPARAMETERS.find((one) => one.key === key);
  if (found === undefined) throw new Error(`no hyperparameter ${key}`);
  return found;
}

/** Whether it is one of those that most people leave alone. */
export const isFurther = (key: HyperKey): boolean => MORE.includes(key);

export type AugmentationKey = Exclude<keyof Augmentations, "$typeName" | "$unknown">;

export interface AugmentationField {
  readonly key: AugmentationKey;
  readonly label: string;
  readonly hint: string;
  /** Smallest that is not zero. */
  readonly min: number;
  readonly max: number;
  readonly step: number;
}

const probability = { min: 0, max: 1, step: 0.05 };

export const AUGMENTATIONS: readonly AugmentationField[] = [
  { key: "horizontalFlip", label: "Horizontal flip", hint: "Probability", ...probability },
  { key: "verticalFlip", label: "Vertical flip", hint: "Probability", ...probability },
  { key: "rotationDegrees", label: "Rotation", hint: "Largest angle, degrees", min: 0, max: 180, step: 1 },
  {
    key: "cropMinArea",
    label: "Random crop",
    hint: "Smallest share of the area",
    min: 0.01,
    max: 0.99,
    step: 0.01,
  },
  { key: "brightness", label: "Brightness", hint: "Largest change", ...probability },
  { key: "contrast", label: "Contrast", hint: "Largest change", ...probability },
  { key: "saturation", label: "Saturation", hint: "Largest change", ...probability },
  { key: "hue", label: "Hue", hint: "Largest turn of the colour wheel", min: 0, max: 0.5, step: 0.01 },
  { key: "blur", label: "Blur", hint: "Probability", ...probability },
  { key: "erasing", label: "Erasing", hint: "Probability that a part is erased", ...probability },
];

export const OPTIMIZERS = [
  [Optimizer.ADAMW, "AdamW"],
  [Optimizer.SGD, "SGD with momentum 0.9"],
] as const;
export const SCHEDULES = [
  [Schedule.ONE_CYCLE, "one cycle"],
  [Schedule.COSINE, "cosine with warm-up"],
  [Schedule.LINEAR, "linear with warm-up"],
  [Schedule.CONSTANT, "constant after warm-up"],
] as const;
export const PRECISIONS = [
  [Precision.FLOAT32, "float32"],
  [Precision.BFLOAT16, "bfloat16, mixed"],
  [Precision.FLOAT16, "float16, mixed"],
] as const;

/** What a training uses where nothing is said, as a placeholder; `never` where there is no clipping by default. */
export function defaultText(architecture: Architecture | undefined, key: HyperKey | "seed"): string {
  const own: Hyperparameters | undefined = architecture?.defaults;
  const value = Number(own?.[key] ?? 0);
  if (key === "accumulateBatches") return String(value || 1);
  if (key === "autoBatchVramShare") return String(value || 0.6);
  if (key === "gradientClipNorm") return value > 0 ? String(value) : architecture ? "never" : "";
  if (value < 0) return "auto";
  return value ? String(value) : "";
}

/** The default choice of an enum: the architecture's, or the platform's own. */
export function defaultChoice(architecture: Architecture | undefined, key: "optimizer" | "schedule" | "precision") {
  return architecture?.defaults?.[key] || 1;
}
