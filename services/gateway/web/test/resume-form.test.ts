import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RunnerStatus } from "../src/gen/protos/events/v1/runner_pb";
import { RunnerSchema } from "../src/gen/protos/scheduler/v1/runner_pb";
import { CheckpointSchema, LimitsSchema } from "../src/gen/protos/training/v1/training_pb";
import { changed, numberProblem, obstacle, reached, typed } from "../src/pages/trainings/checkpoints-resume-form";

const earlier = create(LimitsSchema, { epochs: 12, retries: 2, stallMinutes: 5, stopWhenStalled: true });

test("limits that nobody touched are not sent", () => {
  expect(changed(typed(earlier), earlier)).toBeUndefined();
  expect(changed({ ...typed(earlier), steps: "0" }, earlier)).toBeUndefined();
});

test("what was typed replaces what was, and what the form does not show stays", () => {
  const sent = changed({ ...typed(earlier), epochs: "", steps: "500" }, earlier);
  expect(sent).toMatchObject({ epochs: 0, steps: 500n, retries: 2, stallMinutes: 5, stopWhenStalled: true });
});

test("only whole numbers that fit are taken", () => {
  expect(["", "0", "40"].map(numberProblem)).toEqual(["", "", ""]);
  for (const wrong of ["-1", "1.5", "x", "0x10", "2147483648"]) expect(numberProblem(wrong)).not.toBe("");
});

test("a number is sent as it is read, however it was written", () => {
  expect(numberProblem("1e3")).toBe("");
  expect(changed({ ...typed(earlier), steps: "1e3" }, earlier)).toMatchObject({ steps: 1000n });
});

test("a limit that the checkpoint has reached is told, the nearest miss is not", () => {
  const at = create(CheckpointSchema, { step: 264n, epoch: 12 });
  expect(reached({ ...typed(earlier), epochs: "12" }, at)).toMatch(/epoch 12 of 12/);
  expect(reached({ ...typed(earlier), epochs: "13" }, at)).toBe("");
  expect(reached({ ...typed(earlier), epochs: "", steps: "264" }, at)).toMatch(/step 264 of 264/);
});

test("a box that cannot read the checkpoint is never to be chosen, a busy one only with the queue", () => {
  const box = (runnerId: string, status: RunnerStatus) => create(RunnerSchema, { runnerId, name: runnerId, status });
  const [free, busy] = [box("other", RunnerStatus.ONLINE), box("holder", RunnerStatus.OCCUPIED)];
  const onBoxOnly = create(CheckpointSchema, { runnerId: "holder" });
  expect(obstacle(free, onBoxOnly, true)).toMatch(/cannot read/);
  expect(obstacle(busy, onBoxOnly, false)).toMatch(/OCCUPIED/);
  expect(obstacle(busy, onBoxOnly, true)).toBe("");
  expect(obstacle(free, create(CheckpointSchema, { runnerId: "holder", artifactId: "af_1" }), false)).toBe("");
});
