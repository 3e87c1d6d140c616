import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  ArchitectureSchema,
  DatasetFormat,
  DatasetReportSchema,
  DatasetSchema,
  Optimizer,
  Precision,
  Schedule,
  Task,
  WeightsSource,
  type Workflow,
  WorkflowSchema,
} from "../src/gen/protos/training/v1/training_pb";
import { classBars, pixelSizes, place } from "../src/pages/workflows/balance";
import { AUGMENTATIONS, defaultText, HYPERPARAMETERS } from "../src/pages/workflows/fields";
import { copyName, emptyForm, formOf, problemsOf, sameForm, workflowOf } from "../src/pages/workflows/form";
import { FORMATS, formatOf, locationProblem } from "../src/pages/workflows/formats";

const whole: MessageInitShape<typeof WorkflowSchema> = {
  workflowId: "wf_one",
  name: "mine",
  revision: 3,
  datasetId: "ds_one",
  architectureId: "net",
  hyperparameters: {
    batchSize: 48,
    imageSize: 96,
    learningRate: 3e-4,
    weightDecay: 1e-7,
    validationShare: 0.1 + 0.2,
    seed: 2n ** 64n - 1n,
    optimizer: Optimizer.SGD,
    schedule: Schedule.COSINE,
    precision: Precision.BFLOAT16,
    accumulateBatches: 4,
    autoBatchVramShare: 0.7,
    gradientClipNorm: 1.5,
  },
  augmentations: { horizontalFlip: 0.5, rotationDegrees: 15, hue: 0.02 },
  weights: { source: WeightsSource.CHECKPOINT, checkpoint: { jobId: "jb_one", name: "step-5" } },
};
const full: Workflow = create(WorkflowSchema, whole);
const known = { workflowId: "wf_one", revision: 3 };

describe("a workflow and its form", () => {
  it.each([
    ["whole", whole],
    [
      "with auto and never",
      { ...whole, hyperparameters: { ...whole.hyperparameters, batchSize: -1, gradientClipNorm: -1 } },
    ],
    ["with all augmentations off, which is not the default", { ...whole, augmentations: {} }],
    ["with named weights", { ...whole, weights: { source: WeightsSource.PRETRAINED, name: "hub/x" } }],
    [
      "bare",
      { workflowId: "wf_one", revision: 3, name: "b", datasetId: "d", architectureId: "a", hyperparameters: {} },
    ],
  ])("say the same both ways: %s", (_, given) => {
    const workflow = create(WorkflowSchema, given as MessageInitShape<typeof WorkflowSchema>);
    expect(equals(WorkflowSchema, workflowOf(formOf(workflow), known), workflow)).toBe(true);
  });

  it("knows every field that the platform has: a new one must not get lost on the way", () => {
    const { hyperparameters, augmentations } = full;
    const fields = (message: object | undefined) => Object.keys(message ?? {}).filter((key) => !key.startsWith("$"));
    expect(new Set([...HYPERPARAMETERS.map((one) => one.key), "seed", "optimizer", "schedule", "precision"])).toEqual(
      new Set(fields(hyperparameters)),
    );
    expect(AUGMENTATIONS.map((one) => one.key).toSorted()).toEqual(fields(augmentations).toSorted());
  });

  it("is the same form only where nothing was changed", () => {
    expect(sameForm(formOf(full), formOf(full))).toBe(true);
    expect(sameForm(formOf(full), { ...formOf(full), seed: "7" })).toBe(false);
  });

  it("finds a name for a copy that is not taken", () => {
    expect(copyName("a", [])).toBe("a copy");
    expect(copyName("a", ["a copy", "a copy 2"])).toBe("a copy 3");
    expect(copyName("x".repeat(100), []).length).toBeLessThanOrEqual(100);
  });
});

describe("problems of a workflow", () => {
  const datasets = [create(DatasetSchema, { datasetId: "ds_one", name: "boxes", format: DatasetFormat.COCO })];
  const net = create(ArchitectureSchema, {
    architectureId: "net",
    task: Task.DETECTION,
    defaults: { batchSize: 16, gradientClipNorm: 1 },
  });
  const form = { ...formOf(full), weights: emptyForm().weights };

  it("are none of one that can be saved, and what is missing of an empty one", () => {
    expect(problemsOf(form, datasets, [net])).toEqual({});
    expect(Object.keys(problemsOf(emptyForm(), datasets, [net])).toSorted()).toEqual([
      "architecture_id",
      "dataset_id",
      "name",
    ]);
  });

  it("are told of an architecture of another task, and of things that are gone, once both are known", () => {
    const other = create(ArchitectureSchema, { architectureId: "net", task: Task.SEGMENTATION });
    expect(problemsOf(form, datasets, [other]).architecture_id).toBe(
      "net learns segmentation, and boxes is for detection: choose one of these.",
    );
    expect(Object.keys(problemsOf(form, [], []))).toEqual(["dataset_id", "architecture_id"]);
    expect(problemsOf(form, undefined, undefined)).toEqual({});
  });

  it("have the platform's names and ranges, and zero is no value but for an augmentation", () => {
    const hyper = { ...form.hyper, learningRate: "0", imageSize: "7", weightDecay: "11" };
    const augmentations = form.augmentations && { ...form.augmentations, hue: "0.6", cropMinArea: "0.0", blur: "x" };
    expect(Object.keys(problemsOf({ ...form, hyper, augmentations, seed: "-1" }, datasets, [net])).toSorted()).toEqual([
      "augmentations.blur",
      "augmentations.hue",
      "hyperparameters.image_size",
      "hyperparameters.learning_rate",
      "hyperparameters.seed",
      "hyperparameters.weight_decay",
    ]);
  });

  it("compare the parts of a batch with the batch, the default one too, and not with an automatic one", () => {
    const hyper = { ...form.hyper, batchSize: "", accumulateBatches: "17" };
    const field = "hyperparameters.accumulate_batches";
    expect(problemsOf({ ...form, hyper }, datasets, [net])[field]).toBe(
      "A batch of 16 images cannot be computed in 17 parts.",
    );
    expect(problemsOf({ ...form, hyper, autoBatch: true }, datasets, [net])[field]).toBeUndefined();
  });

  it("ask for a name of weights only where none are published, and for the training of a checkpoint", () => {
    const pretrained = { ...form, weights: { ...form.weights, source: WeightsSource.PRETRAINED } };
    expect(Object.keys(problemsOf(pretrained, datasets, [net]))).toEqual(["weights.name"]);
    const published = create(ArchitectureSchema, { ...net, pretrained: "hub/net" });
    expect(problemsOf(pretrained, datasets, [published])).toEqual({});
    const checkpoint = { ...form, weights: { ...form.weights, source: WeightsSource.CHECKPOINT } };
    expect(Object.keys(problemsOf(checkpoint, datasets, [net]))).toEqual(["weights.checkpoint"]);
  });

  it("stand beside defaults that are the architecture's, or the platform's own", () => {
    expect([defaultText(net, "batchSize"), defaultText(net, "gradientClipNorm")]).toEqual(["16", "1"]);
    const bare = create(ArchitectureSchema, { defaults: {} });
    expect([defaultText(bare, "gradientClipNorm"), defaultText(bare, "accumulateBatches")]).toEqual(["never", "1"]);
    expect([defaultText(bare, "learningRate"), defaultText(undefined, "batchSize")]).toEqual(["", ""]);
  });
});

describe("datasets", () => {
  it("have a format for each that the platform has, each with its task", () => {
    const all = Object.values(DatasetFormat).filter((one): one is DatasetFormat => typeof one === "number" && one > 0);
    expect(FORMATS.map((one) => one.format).toSorted()).toEqual(all.toSorted());
    expect(formatOf({ format: DatasetFormat.UNSPECIFIED }).task).toBe(Task.CLASSIFICATION);
    expect(formatOf({ format: 99 as DatasetFormat }).task).toBe(Task.UNSPECIFIED);
  });

  it("lie at an absolute path or a URL without secrets", () => {
    expect(["/data/digits", "s3://bucket/digits", "/a..b"].map(locationProblem)).toEqual(["", "", ""]);
    for (const wrong of ["", "data", "S3://x", "s3://", "s3://key:secret@bucket/x", "/data/../etc", "s3://b/../c"])
      expect(locationProblem(wrong)).not.toBe("");
  });

  it("are balanced by what the task counts, relative to the most frequent class", () => {
    const report = create(DatasetReportSchema, {
      task: Task.DETECTION,
      classes: [
        { name: "a", images: 10n, objects: 5n },
        { name: "b", images: 1n, objects: 20n },
      ],
      maxWidth: 640,
      maxHeight: 480,
      minWidth: 64,
      minHeight: 48,
    });
    expect(classBars(report).map((bar) => [bar.name, bar.share, bar.words])).toEqual([
      ["a", 0.25, "10 images, 5 objects"],
      ["b", 1, "1 image, 20 objects"],
    ]);
    expect(pixelSizes(report)).toBe("64 × 48 to 640 × 480");
    const empty = create(DatasetReportSchema, { classes: [{ name: "a" }] });
    expect([classBars(empty)[0]?.share, pixelSizes(empty)]).toEqual([0, ""]);
    expect(place({ path: "a.txt", line: 3 } as Parameters<typeof place>[0])).toBe("a.txt:3");
  });
});
