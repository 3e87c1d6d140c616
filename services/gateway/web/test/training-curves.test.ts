import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { SeriesSchema } from "../src/gen/protos/metrics/v1/metrics_pb";
import { Curves, MOST_POINTS } from "../src/pages/trainings/curves";

const series = (name: string, steps: number[], at = 1000) =>
  create(SeriesSchema, {
    name,
    steps: steps.map(BigInt),
    values: steps.map((step) => step / 10),
    atMs: steps.map((_, n) => BigInt(at + n)),
  });
const steps = (curves: Curves, name: string) => curves.all.get(name)?.steps;

describe("curves of a training", () => {
  test("new points are appended, the first answer of a stream replaces everything", () => {
    const curves = new Curves();
    curves.take([series("train/loss", [1, 2, 3])], true);
    curves.take([series("train/loss", [4])], false);
    expect(steps(curves, "train/loss")).toEqual([1, 2, 3, 4]);
    curves.take([series("train/loss", [1, 4])], true);
    expect(steps(curves, "train/loss")).toEqual([1, 4]);
  });

  test("an attempt that makes steps again replaces them, and only them", () => {
    const curves = new Curves();
    curves.take([series("train/loss", [1, 2, 3, 4, 5]), series("validation/loss", [2, 4])], true);
    curves.take([series("train/loss", [4, 5, 6])], false);
    expect(steps(curves, "train/loss")).toEqual([1, 2, 3, 4, 5, 6]);
    expect(curves.all.get("train/loss")?.atMs.slice(3)).toEqual([1000, 1001, 1002]);
    expect(steps(curves, "validation/loss")).toEqual([2, 4]);
  });

  test("the box's clock begins anew with an attempt, and nothing of before is lost", () => {
    const curves = new Curves();
    curves.take([series("gpu0/utilization_percent", [0, 5000], 1000)], true);
    curves.take([series("gpu0/utilization_percent", [0, 5000], 90_000)], false);
    expect(steps(curves, "gpu0/utilization_percent")).toEqual([0, 5000, 0, 5000]);
  });

  test("more points than a page should keep are told", () => {
    const curves = new Curves();
    const all = Array.from({ length: MOST_POINTS }, (_, n) => n + 1);
    curves.take([series("train/loss", all)], true);
    expect(curves.tooLong).toBe(false);
    curves.take([series("train/loss", [MOST_POINTS + 1])], false);
    expect(curves.tooLong).toBe(true);
  });

  test("the reference is the longest series of the training, whatever the box measures", () => {
    const curves = new Curves();
    curves.take(
      [series("cpu/utilization_percent", [1, 2, 3, 4], 500), series("train/loss", [1, 2]), series("x", [1])],
      true,
    );
    expect(curves.reference?.steps).toEqual([1, 2]);
    expect(curves.beganMs).toBe(500);
    expect(curves.names(true)).toEqual(["cpu/utilization_percent"]);
  });
});
