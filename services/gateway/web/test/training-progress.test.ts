import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ExplainChargeResponseSchema, ExplainedInterval_Kind } from "../src/gen/protos/quota/v1/quota_pb";
import { JobSchema, JobState } from "../src/gen/protos/scheduler/v1/job_pb";
import { EndReason } from "../src/gen/protos/training/v1/training_pb";
import {
  accrued,
  chargedByRecord,
  leftMs,
  NOTHING_SEEN,
  phases,
  shareDone,
  stepsPerEpoch,
  totalSteps,
} from "../src/pages/trainings/progress";
import { limitWords } from "../src/pages/trainings/settings-words";
import { bestMetric, doubts, lastMetric, outcome } from "../src/pages/trainings/why";

type Some = Omit<MessageInitShape<typeof JobSchema>, "$typeName" | "$unknown">;

const MINUTE = 60_000;
const job = (of: Some) =>
  create(JobSchema, { state: JobState.RUNNING, submittedAtMs: 1_000n, rateMicros: 2_500_000n, ...of });
const running = (more: Some = {}) => job({ assignedAtMs: 3_000n, interval: { startedAtMs: 10_000n }, ...more });

describe("how far a training is", () => {
  test("an epoch's length is known from the first evaluation", () => {
    const one = running({ spec: { limits: { epochs: 10 } } });
    expect(shareDone(one, { step: 30, firstEvaluation: 0 }, 0)).toBeUndefined();
    const seen = { step: 30, firstEvaluation: 20 };
    expect(stepsPerEpoch(one, seen)).toBe(20);
    expect(totalSteps(one, seen)).toBe(200);
    expect(shareDone(one, seen, 0)).toBeCloseTo(0.15);
  });
  test("with evaluations at a number of steps it is known from checkpoints, rounded up", () => {
    const one = running({
      spec: { limits: { epochs: 4 }, checkpointStrategy: { evaluationIntervalSteps: 10 } },
      checkpoints: [{ step: 25n, epoch: 2 }],
    });
    expect(totalSteps(one, { step: 25, firstEvaluation: 10 })).toBe(52);
  });
  test("the nearer limit counts, and a share never passes one", () => {
    const one = running({ spec: { limits: { steps: 100n, minutes: 10 } } });
    expect(shareDone(one, { step: 10, firstEvaluation: 0 }, 10_000 + 5 * MINUTE)).toBeCloseTo(0.5);
    expect(shareDone(one, { step: 900, firstEvaluation: 0 }, 10_000)).toBe(1);
  });
  test("minutes trained before a resume count towards the limit", () => {
    const one = running({ spec: { limits: { minutes: 10 }, resumeFrom: { trainedMs: BigInt(5 * MINUTE) } } });
    expect(shareDone(one, NOTHING_SEEN, 10_000)).toBeCloseTo(0.5);
  });
  test("what is left is told once there is enough to tell by", () => {
    const one = running({ spec: { limits: { steps: 100n } } });
    expect(leftMs(one, { step: 1, firstEvaluation: 0 }, 10_000 + MINUTE)).toBeUndefined();
    expect(leftMs(one, { step: 25, firstEvaluation: 0 }, 10_000 + MINUTE)).toBe(3 * MINUTE);
  });
});

describe("where the time went", () => {
  test("waiting, checks, training and saving add up to everything", () => {
    const one = job({
      state: JobState.KILLED,
      assignedAtMs: 3_000n,
      interval: { startedAtMs: 10_000n, chargedUntilMs: 70_000n, endedAtMs: 75_000n },
    });
    const found = phases(one, 999_999);
    expect(found).toEqual({ waitingMs: 2_000, preparingMs: 7_000, trainingMs: 60_000, savingMs: 5_000 });
    expect(found.waitingMs + found.preparingMs + found.trainingMs + found.savingMs).toBe(75_000 - 1_000);
  });
  test("a queued one only waits", () => {
    const one = job({ state: JobState.QUEUED });
    expect(phases(one, 61_000)).toEqual({ waitingMs: 60_000, preparingMs: 0, trainingMs: 0, savingMs: 0 });
  });
  test("all attempts count", () => {
    const one = running({
      earlierAttempts: [{ interval: { startedAtMs: 2_000n, chargedUntilMs: 2_500n, endedAtMs: 2_600n } }],
    });
    const found = phases(one, 20_000);
    expect(found.trainingMs).toBe(10_500);
    expect(found.savingMs).toBe(100);
  });
});

describe("what it costs", () => {
  test("the record's minutes are real minutes × rate, over all attempts at their own rates", () => {
    const one = running({
      earlierAttempts: [{ rateMicros: 1_000_000n, interval: { startedAtMs: 1n, chargedUntilMs: BigInt(MINUTE + 1) } }],
    });
    expect(chargedByRecord(one, 10_000 + 2 * MINUTE)).toBe(6_000n);
  });
  test("one that is cut off is charged to its deadline at most", () => {
    const one = running({ deadlineAtMs: BigInt(10_000 + MINUTE) });
    expect(chargedByRecord(one, 10_000 + 99 * MINUTE)).toBe(2_500n);
    expect(accrued(1_000n, 10_000, one, 10_000 + 99 * MINUTE)).toBe(3_500n);
  });
  test("a charge grows while the training runs, and no longer", () => {
    expect(accrued(1_000n, 10_000, running(), 10_000 + MINUTE)).toBe(3_500n);
    const over = running({ state: JobState.FINISHED, interval: { startedAtMs: 1n, chargedUntilMs: 2n } });
    expect(accrued(1_000n, 10_000, over, 10_000 + MINUTE)).toBe(1_000n);
  });
});

describe("why it ended", () => {
  test.each([
    [{ state: JobState.FINISHED, steps: 264n, epochs: 12 }, "Finished after 264 steps in 12 epochs."],
    [
      { state: JobState.FAILED, reason: EndReason.OUT_OF_MEMORY, message: "a batch of 64 does not fit", steps: 1n },
      "Failed after 1 step, out of memory: a batch of 64 does not fit.",
    ],
    [
      { state: JobState.KILLED, reason: EndReason.STOPPED_BY_PERSON, message: "stopped by a person" },
      "Killed, stopped by a person.",
    ],
    [{ state: JobState.KILLED, reason: EndReason.QUEUE_EXPIRED, message: "" }, "Killed, queue expired."],
  ])("%o", (of, sentence) => expect(outcome(job(of))).toBe(sentence));

  test("a presumed and a corrected end say so", () => {
    const presumed = job({ state: JobState.KILLED, interval: { presumed: true } });
    expect(doubts(presumed, undefined).join()).toContain("presumed");
    const corrected = create(ExplainChargeResponseSchema, {
      attempts: [{ corrected: [{ position: 1n }], intervals: [{ kind: ExplainedInterval_Kind.CONNECTED }] }],
    });
    expect(doubts(job({ state: JobState.FINISHED }), corrected).join()).toContain("corrected");
    expect(doubts(job({ state: JobState.FINISHED }), undefined)).toEqual([]);
  });
  test("the last evaluation is told, and the best beside it where that was another one", () => {
    const metrics = { "validation/loss": 0.1, "validation/accuracy": 0.5 };
    const checkpoints = [{ best: true, step: 30n, metrics: { "validation/accuracy": 0.75 } }];
    expect(lastMetric(job({ metrics, checkpoints }))).toBe("accuracy 0.5000");
    expect(bestMetric(job({ metrics, checkpoints, evaluatedStep: 40n }))).toBe("best accuracy 0.7500 at step 30");
    expect(bestMetric(job({ metrics, checkpoints, evaluatedStep: 30n }))).toBe("");
    expect(lastMetric(job({})) + bestMetric(job({}))).toBe("");
  });
  test("limits in words", () => {
    expect(limitWords(job({ spec: { limits: { epochs: 1, minutes: 60 } } }).spec?.limits)).toBe(
      "1 epoch or 60 minutes",
    );
  });
});
