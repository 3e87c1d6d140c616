// A workflow between its form and the platform. Pure: text stays as it was typed until it is sent.
import { create } from "@bufbuild/protobuf";
import {
  type Architecture,
  type Augmentations,
  type Dataset,
  type Hyperparameters,
  type Optimizer,
  type Precision,
  type Schedule,
  WeightsSource,
  type Workflow,
  WorkflowSchema,
} from "../../gen/protos/training/v1/training_pb";
import { fieldName, numberOf, type Problems, problemOf, textOf } from "../run/numbers";
import { AUGMENTATIONS, type AugmentationKey, defaultText, HYPERPARAMETERS, type HyperKey } from "./fields";
import { formatOf, taskName } from "./formats";

const AUTO_BATCH = -1;
const NEVER = -1;
const MAX_SEED = 2n ** 64n - 1n;

export type Amounts = Readonly<Record<AugmentationKey, string>>;

export interface WorkflowForm {
  readonly name: string;
  readonly datasetId: string;
  readonly architectureId: string;
  /** Empty: the architecture's default. */
  readonly hyper: Readonly<Record<HyperKey, string>>;
  readonly seed: string;
  readonly autoBatch: boolean;
  readonly neverClip: boolean;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly precision: Precision;
  /** Undefined: the architecture's. */
  readonly augmentations: Amounts | undefined;
  readonly weights: {
    readonly source: WeightsSource;
    readonly name: string;
    readonly jobId: string;
    /** Empty: the best, or else the newest. */
    readonly checkpoint: string;
  };
}

export function emptyForm(): WorkflowForm {
  return formOf(create(WorkflowSchema));
}

export function formOf(workflow: Workflow): WorkflowForm {
  const { hyperparameters: hyper, weights } = workflow;
  const number = (key: HyperKey) => hyper?.[key] ?? 0;
  const typed = Object.fromEntries(
    HYPERPARAMETERS.map(({ key }) => [key, number(key) < 0 ? "" : textOf(number(key))]),
  ) as Record<HyperKey, string>;
  return {
    name: workflow.name,
    datasetId: workflow.datasetId,
    architectureId: workflow.architectureId,
    hyper: typed,
    seed: textOf(hyper?.seed ?? 0n),
    autoBatch: number("batchSize") < 0,
    neverClip: number("gradientClipNorm") < 0,
    optimizer: hyper?.optimizer ?? 0,
    schedule: hyper?.schedule ?? 0,
    precision: hyper?.precision ?? 0,
    augmentations: workflow.augmentations && amountsOf(workflow.augmentations),
    weights: {
      source: weights?.source ?? WeightsSource.UNSPECIFIED,
      name: weights?.name ?? "",
      jobId: weights?.checkpoint?.jobId ?? "",
      checkpoint: weights?.checkpoint?.name ?? "",
    },
  };
}

/** Augmentations as text; zero is written, for it means none and no default. */
export function amountsOf(of: Augmentations | undefined): Amounts {
  return Object.fromEntries(AUGMENTATIONS.map(({ key }) => [key, String(of?.[key] ?? 0)])) as Record<
    AugmentationKey,
    string
  >;
}

/** The workflow that the form says, with the id and the revision that it replaces. */
export function workflowOf(form: WorkflowForm, known: { workflowId: string; revision: number }): Workflow {
  const { weights, augmentations } = form;
  return create(WorkflowSchema, {
    workflowId: known.workflowId,
    revision: known.revision,
    name: form.name.trim(),
    datasetId: form.datasetId,
    architectureId: form.architectureId,
    hyperparameters: hyperparametersOf(form),
    augmentations:
      augmentations && Object.fromEntries(AUGMENTATIONS.map(({ key }) => [key, numberOf(augmentations[key])] as const)),
    weights: weightsOf(weights),
  });
}

function hyperparametersOf(form: WorkflowForm): Partial<Omit<Hyperparameters, "$typeName" | "$unknown">> {
  const numbers = Object.fromEntries(HYPERPARAMETERS.map(({ key }) => [key, numberOf(form.hyper[key])] as const));
  return {
    ...numbers,
    ...(form.autoBatch && { batchSize: AUTO_BATCH }),
    ...(form.neverClip && { gradientClipNorm: NEVER }),
    seed: seedOf(form.seed) ?? 0n,
    optimizer: form.optimizer,
    schedule: form.schedule,
    precision: form.precision,
  };
}

function weightsOf({ source, name, jobId, checkpoint }: WorkflowForm["weights"]) {
  switch (source) {
    case WeightsSource.UNSPECIFIED:
      return undefined;
    case WeightsSource.PRETRAINED:
      return { source, name: name.trim() };
    case WeightsSource.CHECKPOINT:
      return { source, checkpoint: { jobId, name: checkpoint } };
    default:
      return { source };
  }
}

/** What was typed as a seed; undefined where it is none. Wider than what a number holds exactly. */
function seedOf(text: string): bigint | undefined {
  const typed = text.trim();
  if (typed === "") return 0n;
  if (!/^\d{1,20}$/.test(typed)) return undefined;
  const value = BigInt(typed);
  return value >= 1n && value <= MAX_SEED ? value : undefined;
}

/** What makes no sense, by the platform's name of the field; datasets and architectures once they are known. */
export function problemsOf(
  form: WorkflowForm,
  datasets: readonly Dataset[] | undefined,
  architectures: readonly Architecture[] | undefined,
): Problems {
  const found: Record<string, string> = {};
  const name = form.name.trim();
  if (name === "") found.name = "Give it a name.";
  else if (name.length > 100) found.name = "A name has at most 100 characters.";
  const dataset = datasets?.find((one) => one.datasetId === form.datasetId);
  const architecture = architectures?.find((one) => one.architectureId === form.architectureId);
  if (form.datasetId === "") found.dataset_id = "Choose a dataset.";
  else if (datasets && !dataset) found.dataset_id = "This dataset is not known any more; choose another one.";
  if (form.architectureId === "") found.architecture_id = "Choose an architecture.";
  else if (architectures && !architecture)
    found.architecture_id = `The platform has no architecture ${form.architectureId} any more; choose another one.`;
  else if (dataset && architecture && formatOf(dataset).task !== architecture.task)
    found.architecture_id =
      `${architecture.architectureId} learns ${taskName(architecture.task)}, and ${dataset.name} is for ` +
      `${taskName(formatOf(dataset).task)}: choose one of these.`;
  Object.assign(found, hyperProblems(form, architecture), weightsProblems(form, architecture));
  for (const field of AUGMENTATIONS) {
    const typed = form.augmentations?.[field.key] ?? "";
    // Zero leaves it out, whatever the smallest is.
    const problem = numberOf(typed) === 0 && /^\s*0*\.?0*\s*$/.test(typed) ? "" : problemOf(typed, field, "for none");
    if (problem) found[`augmentations.${fieldName(field.key)}`] = problem;
  }
  return found;
}

function hyperProblems(form: WorkflowForm, architecture: Architecture | undefined): Problems {
  const found: Record<string, string> = {};
  for (const field of HYPERPARAMETERS) {
    const unused =
      (field.key === "batchSize" && form.autoBatch) ||
      (field.key === "autoBatchVramShare" && !form.autoBatch) ||
      (field.key === "gradientClipNorm" && form.neverClip);
    const problem = unused ? "" : problemOf(form.hyper[field.key], field, "for the default");
    if (problem) found[`hyperparameters.${fieldName(field.key)}`] = problem;
  }
  if (seedOf(form.seed) === undefined)
    found["hyperparameters.seed"] = "Give a whole number from 1 on, or leave it empty for the default.";
  const batch = form.autoBatch ? 0 : numberOf(form.hyper.batchSize || defaultText(architecture, "batchSize"));
  const parts = numberOf(form.hyper.accumulateBatches);
  if (batch > 0 && parts > batch && !found["hyperparameters.accumulate_batches"])
    found["hyperparameters.accumulate_batches"] = `A batch of ${batch} images cannot be computed in ${parts} parts.`;
  return found;
}

function weightsProblems(form: WorkflowForm, architecture: Architecture | undefined): Problems {
  const { source, name, jobId } = form.weights;
  if (source === WeightsSource.CHECKPOINT && jobId === "")
    return { "weights.checkpoint": "Choose the training that the checkpoint is of." };
  if (source !== WeightsSource.PRETRAINED) return {};
  if (name.trim().length > 200) return { "weights.name": "A name of weights has at most 200 characters." };
  if (name.trim() === "" && architecture?.pretrained === "")
    return {
      "weights.name": `The catalogue has no weights for ${architecture.architectureId}; name some that the box knows.`,
    };
  return {};
}

/** Whether two forms would be saved as the same. */
export function sameForm(a: WorkflowForm, b: WorkflowForm): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A name that is not taken yet: `digits copy`, `digits copy 2`. */
export function copyName(name: string, taken: readonly string[]): string {
  const base = `${name.slice(0, 90)} copy`;
  for (let n = 1; ; n += 1) {
    const made = n === 1 ? base : `${base} ${n}`;
    if (!taken.includes(made)) return made;
  }
}
