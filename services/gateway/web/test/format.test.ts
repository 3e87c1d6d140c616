import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import * as fmt from "../src/format";
import { InventorySchema } from "../src/gen/protos/common/v1/inventory_pb";
import { RunnerStatus } from "../src/gen/protos/events/v1/runner_pb";
import { JobSchema, JobState } from "../src/gen/protos/scheduler/v1/job_pb";
import { RunnerSchema } from "../src/gen/protos/scheduler/v1/runner_pb";
import { EndReason } from "../src/gen/protos/training/v1/training_pb";
import { attempt, cutOff, isCutOff, isOver, jobState, reason, runnerState } from "../src/states";

// The same examples as the command line's own tests: both tell the same things with the same words.
describe("words of the command line", () => {
  test.each([
    [-5, "0:00"],
    [999, "0:00"],
    [42_000, "0:42"],
    [751_000, "12:31"],
    [3_723_000, "1:02:03"],
  ])("%d ms are %s", (ms, words) => expect(fmt.duration(ms)).toBe(words));

  test.each([
    [3_000, "just now"],
    [45_000, "45 s ago"],
    [200_000, "3 min ago"],
    [7_300_000, "2 h ago"],
    [90_000_000, "1 day ago"],
    [5 * 86_400_000, "5 days ago"],
    [-1_000, "just now"],
  ])("%d ms old is %s", (age, words) => expect(fmt.ago(1e12, 1e12 + age)).toBe(words));

  test("what never was is never", () => {
    expect(fmt.ago(0, 1e12)).toBe("never");
    expect(fmt.moment(0)).toBe("never");
  });

  test.each([
    [340, "0.34"],
    [35_200, "35.2"],
    [1_240_000, "1,240"],
    [-12_500, "-12.5"],
    [0, "0.00"],
    // As the command line rounds them: tests/unit/test_cli_format.py.
    [7_625, "7.63"],
    [15, "0.02"],
    [-7_625, "-7.63"],
    [9_999, "10.00"],
    [999_950, "1,000.0"],
    [1_240_500, "1,241"],
  ])("%d thousandths of a minute are %s", (milliminutes, words) => {
    expect(fmt.minutes(milliminutes)).toBe(words);
    expect(fmt.minutes(BigInt(milliminutes))).toBe(words);
  });

  test("a rate of one is one minute a minute", () => {
    expect(fmt.rate(1_000_000n)).toBe("1 minute a minute");
    expect(fmt.rate(2_500_000n)).toBe("2.5 minutes a minute");
    expect(fmt.rate(10_000_000n)).toBe("10 minutes a minute");
    expect(fmt.factor(1_500_000)).toBe("×1.5");
  });

  test("counts are grouped, and one is no plural", () => {
    expect([fmt.count(1, "epoch"), fmt.count(1320n, "step"), fmt.count(0, "event")]).toEqual([
      "1 epoch",
      "1,320 steps",
      "0 events",
    ]);
  });

  test("sizes, spans, ids", () => {
    expect([fmt.size(512), fmt.size(3_565_158), fmt.size(24n * 2n ** 30n)]).toEqual(["512 B", "3.4 MiB", "24 GiB"]);
    expect([fmt.span(1_900), fmt.span(751_000)]).toEqual(["1.9 s", "12:31"]);
    expect(fmt.shortId("jb_k3v9q2m7x4p8w1zt")).toBe("jb_k3v9q2m7");
    expect(fmt.words(EndReason, EndReason.OUT_OF_MEMORY)).toBe("out of memory");
    expect(fmt.words(EndReason, 99)).toBe("number 99");
  });

  test("metrics: the task's own first, the loss last, by the names that people use", () => {
    const found = ["validation/loss", "validation/map_50", "validation/map", "validation/ar_1"];
    expect(fmt.byImportance(found).map(fmt.metricName)).toEqual(["mAP", "AR 1", "mAP 50", "loss"]);
  });

  test("series have the unit that their name ends in, and what is no number says so", () => {
    expect(fmt.measured("system/gpu0/memory_bytes", 2 ** 30)).toBe("1 GiB");
    expect(fmt.measured("system/gpu0/utilization_percent", 97.4)).toBe("97 %");
    expect(fmt.measured("train/loss", Number.NaN)).toBe("NaN");
    expect(fmt.metric(0.98333)).toBe("0.9833");
  });

  test("GPUs are counted by kind", () => {
    const box = create(InventorySchema, { gpus: [{ type: "A10G" }, { type: "T4" }, { type: "A10G" }] });
    expect(fmt.gpus(box)).toBe("A10G ×2 + T4 ×1");
    expect(fmt.gpus(undefined)).toBe("");
  });
});

describe("charged minutes", () => {
  // As services/quota rounds: half up, below zero as well.
  test.each([
    [0n, 0n],
    [29_999_999n, 0n],
    [30_000_000n, 1n],
    [60_000_000n, 1n],
    [90_000_000n, 2n],
    [-30_000_000n, 0n],
    [-30_000_001n, -1n],
    [-90_000_000n, -1n],
    [-90_000_001n, -2n],
  ])("%d ms × millionths are %d thousandths of a minute", (msMicros, milliminutes) => {
    expect(fmt.chargedMilliminutes(msMicros)).toBe(milliminutes);
  });

  test("are exact where a double is not", () => {
    const huge = 9_007_199_254_740_993n * 60_000_000n;
    expect(fmt.chargedMilliminutes(huge)).toBe(9_007_199_254_740_993n);
  });
});

describe("states", () => {
  const job = (more: MessageInitShape<typeof JobSchema>) => create(JobSchema, more);

  test("every status of a runner has its own symbol and word, and one of a newer platform has one too", () => {
    const shown = [RunnerStatus.ONLINE, RunnerStatus.SUSPENDED, RunnerStatus.OCCUPIED, RunnerStatus.OFFLINE].map(
      (status) => runnerState(create(RunnerSchema, { status })),
    );
    expect(shown.map((state) => state.label)).toEqual(["ONLINE", "SUSPENDED", "OCCUPIED", "OFFLINE"]);
    expect(new Set(shown.map((state) => state.symbol)).size).toBe(4);
    expect(runnerState(create(RunnerSchema, { status: 99 as RunnerStatus })).label).toBe("UNKNOWN");
  });

  test("every state of a job has its own symbol and word", () => {
    const all = Object.values(JobState).filter((value) => typeof value === "number" && value > 0) as JobState[];
    const shown = all.map((state) => jobState(job({ state })));
    expect(new Set(shown.map((state) => state.symbol)).size).toBe(all.length);
    expect(new Set(shown.map((state) => state.label)).size).toBe(all.length);
    expect(shown.map((state) => state.label)).not.toContain("UNKNOWN");
  });

  test("only a job that holds a runner is cut off, and only with a deadline", () => {
    const states = [JobState.QUEUED, JobState.ASSIGNED, JobState.RUNNING, JobState.STOPPING, JobState.KILLED];
    expect(states.map((state) => isCutOff(job({ state, deadlineAtMs: 1n })))).toEqual([false, true, true, true, false]);
    expect(isCutOff(job({ state: JobState.RUNNING }))).toBe(false);
    expect(cutOff(1_000_000n, 1_000_000 - 751_000)).toBe("cut off · 12:31 left");
    expect(cutOff(1_000n, 9_000)).toBe("cut off · 0:00 left");
    expect(cutOff(0n, 9_000)).toBe("");
    expect([isOver(job({ state: JobState.KILLED })), isOver(job({ state: JobState.STOPPING }))]).toEqual([true, false]);
  });

  test("attempts are told from the second on, and while the next one waits", () => {
    const spec = { limits: { retries: 2 } };
    const told = (state: JobState, number: number) => attempt(create(JobSchema, { state, attempt: number, spec }));
    expect(told(JobState.RUNNING, 1)).toBe("");
    expect(told(JobState.RUNNING, 2)).toBe("attempt 2 of 3");
    expect(told(JobState.QUEUED, 1)).toBe("waits for attempt 2 of 3");
    expect(told(JobState.QUEUED, 0)).toBe("");
  });

  test("reasons are words, and none is nothing", () => {
    expect(reason(EndReason.CONNECTION_LOST)).toBe("connection lost");
    expect(reason(EndReason.UNSPECIFIED)).toBe("");
  });
});
