import { create, equals, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { SubmitJobRequestSchema } from "../src/gen/protos/scheduler/v1/job_pb";
import {
  AdvancedEvaluationSchema,
  CheckpointPolicy,
  CheckpointStrategySchema,
  LimitsSchema,
  TrainingSpecSchema,
} from "../src/gen/protos/training/v1/training_pb";
import { fieldName, numberOf, problemOf, textOf } from "../src/pages/run/numbers";
import {
  FIRST_TIME,
  problemsOf,
  type RunForm,
  recalled,
  remembered,
  requestOf,
  settingsOf,
} from "../src/pages/run/settings";

describe("numbers as they are typed", () => {
  it("are read as every program writes them, and nothing else is taken for one", () => {
    expect(["32", " 0.5 ", "3e-4", ".5", "5.", "-1"].map(numberOf)).toEqual([32, 0.5, 0.0003, 0.5, 5, -1]);
    expect(["", "abc", "1,5", "0x10", "Infinity", "1e", "1 2"].map(numberOf)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it("come back as the same number, and a default as nothing", () => {
    for (const value of [1, 0.003, 1e-7, 123_456_789, 0.1 + 0.2]) expect(numberOf(textOf(value))).toBe(value);
    expect([textOf(0), textOf(0n), textOf(7n)]).toEqual(["", "", "7"]);
  });

  it("are refused outside of the range, at a fraction where they are whole, and where they are none", () => {
    const range = { min: 1, max: 20, whole: true };
    expect(["", "1", "20", "2e1"].map((text) => problemOf(text, range, "for none"))).toEqual(["", "", "", ""]);
    for (const text of ["0", "21", "1.5", "-1", "abc", "1e400"])
      expect(problemOf(text, range, "for none")).toBe("Give a whole number from 1 to 20, or leave it empty for none.");
    expect(problemOf("0", { min: 1e-9, max: 100 }, "for the default")).toBe(
      "Give a number from 1e-9 to 100, or leave it empty for the default.",
    );
  });

  it("have the platform's names", () => expect(fieldName("autoBatchVramShare")).toBe("auto_batch_vram_share"));
});

describe("Training Settings and the request", () => {
  const full: RunForm = {
    ...FIRST_TIME,
    name: " mine ",
    evaluationIntervalSteps: "50",
    policy: CheckpointPolicy.LOWEST_VALIDATION_LOSS,
    keepBest: "3",
    advanced: true,
    epochs: "5",
    steps: "1000",
    minutes: "9",
    earlyStoppingPatience: "4",
    retries: "2",
    stallMinutes: "12",
    stopWhenStalled: true,
    where: "runner:rn_one",
    labels: "ignored=here",
  };

  it("says all that the form says, and nothing of what the workflow says", () => {
    const request = requestOf(full, "wf_one", "id");
    expect(
      equals(
        SubmitJobRequestSchema,
        request,
        create(SubmitJobRequestSchema, {
          requestId: "id",
          name: "mine",
          workflowId: "wf_one",
          runnerId: "rn_one",
          queue: false,
          checkpointStrategy: { evaluationIntervalSteps: 50, policy: 3, keepBest: 3 },
          advancedEvaluation: { enabled: true, confusionMatrix: true },
          limits: {
            epochs: 5,
            steps: 1000n,
            minutes: 9,
            earlyStoppingPatience: 4,
            retries: 2,
            stallMinutes: 12,
            stopWhenStalled: true,
          },
        }),
      ),
    ).toBe(true);
  });

  it("queues for a runner and for any, the latter with its labels", () => {
    expect(requestOf({ ...full, where: "queue:rn_one" }, "w", "i")).toMatchObject({ runnerId: "rn_one", queue: true });
    expect(requestOf({ ...full, where: "any", labels: "room=2" }, "w", "i")).toMatchObject({
      runnerId: "",
      queue: true,
      labels: { room: "2" },
    });
  });

  it("leaves out what the chosen policy does not ask for", () => {
    const every = { ...full, policy: CheckpointPolicy.EVERY_N_EVALUATIONS, everyNEvaluations: "2" };
    expect(requestOf(every, "w", "i").checkpointStrategy).toMatchObject({ everyNEvaluations: 2, keepBest: 0 });
    expect(requestOf({ ...full, everyNEvaluations: "2" }, "w", "i").checkpointStrategy?.everyNEvaluations).toBe(0);
  });

  it("never asks to stop what never counts as stalled, which the platform refuses", () => {
    const never = requestOf({ ...full, neverStalled: true }, "w", "i").limits;
    expect(never).toMatchObject({ stallMinutes: -1, stopWhenStalled: false });
  });

  it("goes to an earlier training's settings and back without a loss", () => {
    for (const form of [full, { ...full, neverStalled: true, stopWhenStalled: false }]) {
      const request = requestOf(form, "w", "i");
      const spec = create(TrainingSpecSchema, {
        checkpointStrategy: request.checkpointStrategy,
        advancedEvaluation: request.advancedEvaluation,
        limits: request.limits,
      });
      const again = requestOf(settingsOf(spec), "w", "i");
      const parts = (one: typeof again) => [
        toBinary(CheckpointStrategySchema, one.checkpointStrategy ?? create(CheckpointStrategySchema)),
        toBinary(AdvancedEvaluationSchema, one.advancedEvaluation ?? create(AdvancedEvaluationSchema)),
        toBinary(LimitsSchema, one.limits ?? create(LimitsSchema)),
      ];
      expect(parts(again)).toEqual(parts(request));
    }
  });
});

describe("problems of the settings", () => {
  it("are told by the platform's name of the field", () => {
    const wrong = problemsOf({ ...FIRST_TIME, epochs: "0", retries: "21", keepBest: "x", where: "any", labels: "a" });
    expect(Object.keys(wrong).sort()).toEqual([
      "checkpoint_strategy.keep_best",
      "labels",
      "limits.epochs",
      "limits.retries",
    ]);
    expect(problemsOf(FIRST_TIME)).toEqual({});
  });

  it("do not come from fields that are not shown", () => {
    expect(problemsOf({ ...FIRST_TIME, everyNEvaluations: "x", stallMinutes: "x", neverStalled: true })).toEqual({});
    expect(problemsOf({ ...FIRST_TIME, labels: "a", where: "runner:rn" })).toEqual({});
  });
});

describe("what is remembered", () => {
  it("comes back but for the name", () => {
    const form: RunForm = { ...FIRST_TIME, name: "one training", epochs: "5", where: "any", labels: "a=b" };
    expect(recalled(remembered(form))).toEqual({ ...form, name: "" });
  });

  it("is the first time's where it is nothing, broken, or of another form", () => {
    for (const text of [null, "", "{", "[]", "null", "7"]) expect(recalled(text)).toEqual(FIRST_TIME);
    const odd = JSON.stringify({ epochs: 5, policy: 99, where: "javascript:x:y", advanced: true, token: "secret" });
    expect(recalled(odd)).toEqual({ ...FIRST_TIME, advanced: true });
  });
});
