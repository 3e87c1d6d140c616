// Settings of several trainings side by side. Pure.
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type TrainingSpec, TrainingSpecSchema } from "../../gen/protos/training/v1/training_pb";

export interface Setting {
  /** Where it stands in the training's settings, for example `hyperparameters.learning_rate`. */
  readonly path: string;
  /** `learning rate`. */
  readonly name: string;
  /** In the order of the trainings; undefined: not set. */
  readonly values: readonly (string | undefined)[];
  readonly differs: boolean;
}

// What an architecture is made of says its name better; the others belong to one training alone.
const LEFT_OUT = ["architecture.", "resume_from.", "dataset.dataset_id", "workflow_id"];
const SECTIONS: Record<string, string> = {
  augmentations: "augmentation",
  limits: "limit",
  checkpoint_strategy: "checkpoints",
  weights: "weights",
};
const OWN_NAMES: Record<string, string> = {
  "dataset.name": "dataset",
  "advanced_evaluation.enabled": "advanced evaluation",
  "advanced_evaluation.confusion_matrix": "confusion matrix",
  "weights.source": "weights",
};
// How values of enumerations begin.
const ENUMS = /^(DATASET_FORMAT|CHECKPOINT_POLICY|WEIGHTS_SOURCE|OPTIMIZER|SCHEDULE|PRECISION)_/;

/** Every setting that some of the trainings has, in the order of the protos. */
export function settingsOf(specs: readonly (TrainingSpec | undefined)[]): Setting[] {
  const flat = specs.map((spec) => (spec === undefined ? new Map<string, string>() : flatten(spec)));
  const paths = new Set(flat.flatMap((one) => [...one.keys()]));
  return [...paths].map((path) => {
    const found = flat.map((one) => one.get(path));
    // What is switched off is left out of a message.
    const values = found.includes("yes") ? found.map((value) => value ?? "no") : found;
    return { path, name: nameOf(path), values, differs: values.some((value) => value !== values[0]) };
  });
}

function flatten(spec: TrainingSpec): Map<string, string> {
  const found = new Map<string, string>([["architecture", spec.architecture?.architectureId ?? ""]]);
  const visit = (value: JsonValue | undefined, path: string) => {
    if (value === undefined || value === null) return;
    if (typeof value === "object" && !Array.isArray(value))
      for (const [name, inner] of Object.entries(value)) visit(inner, path ? `${path}.${name}` : name);
    else if (!LEFT_OUT.some((start) => path.startsWith(start))) found.set(path, shown(path, value));
  };
  visit(toJson(TrainingSpecSchema, spec, { useProtoFieldName: true }), "");
  return found;
}

function shown(path: string, value: JsonValue): string {
  if (path.endsWith("batch_size") && value === -1) return "auto";
  if (/gradient_clip_norm$|stall_minutes$/.test(path) && Number(value) < 0) return "never";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string" && ENUMS.test(value))
    return value.replace(ENUMS, "").replaceAll("_", " ").toLowerCase();
  // What was stored in 32 bits has digits that nobody typed.
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}

function nameOf(path: string): string {
  const own = OWN_NAMES[path];
  if (own !== undefined) return own;
  const [section, ...rest] = path.split(".");
  const words = (rest.length > 0 ? rest : [section ?? ""]).join(", ").replaceAll("_", " ");
  const before = rest.length > 0 ? SECTIONS[section ?? ""] : undefined;
  if (section === "dataset") return `dataset, ${words}`;
  return before === undefined ? words : `${before}: ${words}`;
}
