import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EvaluationSchema } from "../src/gen/protos/metrics/v1/ingest_pb";
import { JobSchema } from "../src/gen/protos/scheduler/v1/job_pb";
import { CheckpointPolicy, Task, TrainingSpecSchema } from "../src/gen/protos/training/v1/training_pb";
import { bestEvaluation, choices, results, type Side } from "../src/pages/trainings/compare-results";
import { settingsOf } from "../src/pages/trainings/compare-settings";

const evaluation = (step: number, metrics: Record<string, number>) =>
  create(EvaluationSchema, { step: BigInt(step), metrics });

const side = (task: Task, metrics: Record<string, number>): Side => ({
  job: create(JobSchema, {}),
  task,
  step: 1,
  metrics,
});

describe("settings", () => {
  const spec = (learningRate: number, epochs: number, more = {}) =>
    create(TrainingSpecSchema, {
      dataset: { datasetId: `ds_${learningRate}`, name: "digits" },
      architecture: { architectureId: "resnet-tiny", description: "a net" },
      hyperparameters: { learningRate, batchSize: -1 },
      checkpointStrategy: { policy: CheckpointPolicy.BEST_METRIC },
      limits: { epochs },
      resumeFrom: { jobId: `jb_${learningRate}` },
      ...more,
    });
  const differing = (...specs: ReturnType<typeof spec>[]) =>
    settingsOf(specs)
      .filter((one) => one.differs)
      .map((one) => one.path);

  test("exactly what differs is told so", () => {
    expect(differing(spec(0.1, 5), spec(0.1, 5))).toEqual([]);
    expect(differing(spec(0.1, 5), spec(0.1, 5), spec(0.2, 5))).toEqual(["hyperparameters.learning_rate"]);
    expect(differing(spec(0.1, 5), spec(0.1, 0))).toEqual(["limits.epochs"]);
  });
  test("one that only some have differs, and the others have none", () => {
    const found = settingsOf([spec(0.1, 5, { augmentations: { blur: 0.5 } }), spec(0.1, 5)]);
    expect(found.find((one) => one.path === "augmentations.blur")).toMatchObject({
      name: "augmentation: blur",
      values: ["0.5", undefined],
      differs: true,
    });
  });
  test("what is switched off is told as no, not as unknown", () => {
    const found = settingsOf([spec(0.1, 5, { advancedEvaluation: { enabled: true } }), spec(0.1, 5)]);
    expect(found.find((one) => one.name === "advanced evaluation")?.values).toEqual(["yes", "no"]);
  });
  test("values and names are those that people chose", () => {
    const found = new Map(settingsOf([spec(0.1, 5)]).map((one) => [one.name, one.values[0]]));
    expect(found.get("batch size")).toBe("auto");
    expect(found.get("checkpoints: policy")).toBe("best metric");
    expect(found.get("architecture")).toBe("resnet-tiny");
    expect([...found.keys()].some((name) => /description|dataset id|job id/.test(name))).toBe(false);
  });
});

describe("the best evaluation", () => {
  test("is by the task's metric, by the loss where there is none; of equals the earliest", () => {
    const found = [
      evaluation(1, { "validation/accuracy": 0.8, "validation/loss": 0.1 }),
      evaluation(2, { "validation/accuracy": 0.9, "validation/loss": 0.5 }),
      evaluation(3, { "validation/accuracy": 0.9, "validation/loss": 0.4 }),
    ];
    expect(bestEvaluation(found)?.step).toBe(2n);
    const losses = found.map((one) =>
      evaluation(Number(one.step), { "validation/loss": one.metrics["validation/loss"] ?? 0 }),
    );
    expect(bestEvaluation(losses)?.step).toBe(1n);
  });
  test("is never one that is no number, while there is another", () => {
    const broken = evaluation(1, { "validation/accuracy": Number.NaN });
    expect(bestEvaluation([broken, evaluation(2, { "validation/accuracy": 0.1 })])?.step).toBe(2n);
    expect(bestEvaluation([broken])?.step).toBe(1n);
    expect(bestEvaluation([])).toBeUndefined();
  });
});

describe("results", () => {
  test("the largest metric and the smallest loss are best", () => {
    const rows = results([
      side(Task.CLASSIFICATION, { "validation/accuracy": 0.9, "validation/loss": 0.3 }),
      side(Task.CLASSIFICATION, { "validation/accuracy": 0.8, "validation/loss": 0.2 }),
    ]);
    expect(rows.map((row) => [row.name, [...row.best]])).toEqual([
      ["validation/accuracy", [0]],
      ["validation/loss", [1]],
    ]);
  });
  test("different tasks are never held against each other", () => {
    const rows = results([
      side(Task.CLASSIFICATION, { "validation/loss": 0.3 }),
      side(Task.DETECTION, { "validation/loss": 2 }),
      side(Task.DETECTION, { "validation/loss": 3 }),
    ]);
    expect([...(rows[0]?.best ?? [])]).toEqual([1]);
  });
  test("equals, and what is no number, are not best", () => {
    const of = (...values: number[]) => [
      ...(results(values.map((value) => side(Task.DETECTION, { "validation/map": value })))[0]?.best ?? []),
    ];
    expect(of(0.5, 0.5)).toEqual([]);
    expect(of(0.5, Number.NaN)).toEqual([]);
    expect(of(0.5, 0.6, 0.6)).toEqual([1, 2]);
  });
});

describe("curves to choose", () => {
  test("losses of two tasks are two choices, a learning rate is one", () => {
    const names = ["train/loss", "train/learning_rate"];
    const found = choices([
      { task: Task.CLASSIFICATION, names },
      { task: Task.DETECTION, names },
    ]);
    expect(found.filter((one) => one.name === "train/loss").map((one) => one.task)).toEqual([
      Task.CLASSIFICATION,
      Task.DETECTION,
    ]);
    expect(found.filter((one) => one.name === "train/learning_rate")).toEqual([
      { name: "train/learning_rate", task: undefined },
    ]);
  });
  test("the task's own metric is the first, if they have it in common", () => {
    const names = ["train/loss", "validation/accuracy", "validation/f1"];
    const found = choices([
      { task: Task.CLASSIFICATION, names },
      { task: Task.CLASSIFICATION, names },
    ]);
    expect(found[0]?.name).toBe("validation/accuracy");
  });
});
