import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { chargedMilliminutes } from "../src/format";
import {
  ChargeSchema,
  ExplainedAttemptSchema,
  ExplainedInterval_Kind as Kind,
  UsageRowSchema,
} from "../src/gen/protos/quota/v1/quota_pb";
import { EndReason } from "../src/gen/protos/training/v1/training_pb";
import { asTyped, exact, exactSpan, MS_MICROS_PER_MINUTE, parsedMinutes, shareOf } from "../src/pages/usage/amounts";
import { wholeOf } from "../src/pages/usage/breakdown-rows";
import { chargeLine, merged } from "../src/pages/usage/charge-list";
import { rateWords, timesByKind } from "../src/pages/usage/invoice-words";
import {
  bounds,
  fromLocalInput,
  localInput,
  momentOf,
  monthName,
  monthOf,
  shifted,
  utc,
} from "../src/pages/usage/month";
import { left, standing } from "../src/pages/usage/thresholds";

describe("months in UTC", () => {
  test("begin and end where UTC's do, in leap years and at a year's end too", () => {
    expect(bounds("2028-02")).toEqual({ startMs: Date.UTC(2028, 1, 1), endMs: Date.UTC(2028, 1, 30) });
    expect(monthOf(Date.UTC(2027, 0, 1) - 1)).toBe("2026-12");
    expect(monthOf(Date.UTC(2027, 0, 1))).toBe("2027-01");
    expect([shifted("2026-12", 1), shifted("2026-01", -1), shifted("2026-05", -17)]).toEqual([
      "2027-01",
      "2025-12",
      "2024-12",
    ]);
  });

  test("what is no month has no bounds", () => {
    for (const text of ["", "2026", "2026-13", "2026-00", "26-01", "2026-01-01", "x"])
      expect(bounds(text)).toBeUndefined();
    expect([monthName("2026-11"), monthName("x")]).toEqual(["November 2026", "x"]);
  });

  test("an address that names no moment names none", () => {
    expect(momentOf("1795411331007")).toBe(1_795_411_331_007);
    for (const text of [undefined, "", "x", "-5", "1.5", "1e20", "9999999999999999"]) expect(momentOf(text)).toBe(0);
  });

  test("a moment that is typed is the one that is shown", () => {
    const atMs = Date.UTC(2026, 10, 23, 5, 30);
    expect(fromLocalInput(localInput(atMs))).toBe(atMs);
    expect([localInput(0), fromLocalInput(""), fromLocalInput("soon")]).toEqual(["", 0, 0]);
    expect(utc(1_795_411_331_007)).toBe(new Date(1_795_411_331_007).toISOString().slice(0, 23).replace("T", " "));
  });
});

describe("amounts", () => {
  test("sums are told to the millionth of a minute, rounded half away from zero", () => {
    expect(exact(237_150_000_000n)).toBe("3.952500");
    expect(exact(30_000n)).toBe("0.000001");
    expect(exact(29_999n)).toBe("0.000000");
    expect(exact(-90_000n)).toBe("−0.000002");
    expect(exact(1_234_567n * MS_MICROS_PER_MINUTE)).toBe("1,234,567.000000");
  });

  test("times are told to the millisecond", () => {
    expect([exactSpan(31_620n), exactSpan(3_723_250n), exactSpan(0n), exactSpan(-5n)]).toEqual([
      "0:31.620",
      "1:02:03.250",
      "0:00.000",
      "0:00.000",
    ]);
  });

  test.each([
    ["600", 600_000n],
    ["1,240.5", 1_240_500n],
    [" -12.5 ", -12_500n],
    ["−3", -3_000n],
    ["+0.001", 1n],
    ["5.", 5_000n],
    ["999999999999", 999_999_999_999_000n],
  ])("%s is typed", (text, milliminutes) => {
    expect(parsedMinutes(text)).toEqual({ milliminutes });
  });

  test.each(["", " ", "x", "1.2345", "1e3", "--5", "5-", ".", "9999999999999"])(
    "%s is no number of minutes",
    (text) => {
      expect(parsedMinutes(text)).toHaveProperty("problem");
    },
  );

  test("what is filled in is what is typed", () => {
    for (const milliminutes of [0n, 1n, 34n, 600_000n, -12_500n, 10n ** 15n])
      expect(parsedMinutes(asTyped(milliminutes))).toEqual({ milliminutes });
  });

  test("there is no share of nothing", () => {
    expect([shareOf(1n, 4n), shareOf(1n, 0n), shareOf(-1n, -4n)]).toEqual([0.25, 0, 0]);
  });
});

describe("a breakdown", () => {
  const row = (key: string, chargedMsMicros: bigint, more = {}) =>
    create(UsageRowSchema, { key, chargedMsMicros, ...more });

  test("adds up to the whole exactly, whatever its rows are rounded to", () => {
    // Three thirds of a thousandth of a minute, of which each alone is rounded to nothing.
    const rows = ["a", "b", "c"].map((key) => row(key, 20_000_000n));
    const whole = wholeOf(rows, "runner", new Map());
    expect(whole.parts.map((part) => chargedMilliminutes(part.msMicros))).toEqual([0n, 0n, 0n]);
    expect(chargedMilliminutes(whole.msMicros)).toBe(1n);
    expect(whole.parts.reduce((sum, part) => sum + part.share, 0)).toBeCloseTo(1);
  });

  test("the longest bar is the largest row's; a refund has none", () => {
    const whole = wholeOf([row("a", 50n), row("b", 100n), row("c", -25n)], "person", new Map());
    expect(whole.parts.map((part) => part.length)).toEqual([0.5, 1, 0]);
    expect(whole.msMicros).toBe(125n);
    expect(whole.parts[2]?.share).toBe(0);
  });

  test("of refunds only has no shares", () => {
    const whole = wholeOf([row("a", -50n)], "person", new Map());
    expect(whole.parts[0]).toMatchObject({ share: 0, length: 0 });
  });

  test("rows are called what people call them, and lead to what they are of", () => {
    const names = new Map([["token:t1", "Ada"]]);
    const named = (key: string, by: string, more = {}) => {
      const [part] = wholeOf([row(key, 1n, more)], by, names).parts;
      return [part?.name, part?.href];
    };
    expect(named("rn_1", "runner", { name: "box-1" })).toEqual(["box-1", "/runners/rn_1"]);
    expect(named("jb_1", "training", { name: "digits" })).toEqual(["digits", "/trainings/jb_1"]);
    expect(named("wf_1", "workflow", { name: "small" })).toEqual(["small", "/workflows/wf_1"]);
    expect(named("ds_1/resnet", "workflow")).toEqual(["ds_1/resnet", ""]);
    expect(named("token:t1", "person")).toEqual(["Ada", ""]);
    expect(named("token:t2", "person")).toEqual(["token:t2", ""]);
    expect(named("*", "runner", { name: "12 more" })).toEqual(["12 more", ""]);
    expect(named("", "runner")).toEqual(["adjustments of no training", ""]);
  });
});

describe("the quota in words", () => {
  test.each([
    [0n, "good"],
    [449_999n, "good"],
    [450_000n, "warn"],
    [540_000n, "warn"],
    [599_999n, "warn"],
  ])("%d of 600,000 is %s", (used, tone) => expect(standing(used, 600_000n, false).tone).toBe(tone));

  test("names the threshold that is passed and the one ahead, with its minutes", () => {
    expect(standing(0n, 600_000n, false).text).toContain("75 %, 450.0 minutes");
    expect(standing(460_000n, 600_000n, false).text).toMatch(/^75 %.*90 %, 540\.0 minutes/);
    expect(standing(550_000n, 600_000n, false).text).toMatch(/^90 %.*100 %, 600\.0 minutes/);
    expect(standing(600_000n, 600_000n, true)).toMatchObject({ tone: "bad" });
    expect(standing(5n, undefined, false).tone).toBe("quiet");
  });

  test("what is left may be less than nothing, and is nothing known without a quota", () => {
    expect(left({ usedMilliminutes: 700n, quotaMilliminutes: 600n })).toBe(-100n);
    expect(left({ usedMilliminutes: 700n, quotaMilliminutes: undefined })).toBeUndefined();
  });
});

describe("charges", () => {
  const charge = (jobId: string, milliminutes = 1n) => create(ChargeSchema, { jobId, milliminutes });
  const ids = (all: readonly { jobId: string }[]) => all.map((one) => one.jobId).join("");

  test("each job is in the list once, as it was told last", () => {
    const known = [charge("c"), charge("b")];
    const newest = merged(known, [charge("d"), charge("c", 9n)], "newest");
    expect(ids(newest)).toBe("dcb");
    expect(newest[1]?.milliminutes).toBe(9n);
    expect(ids(merged(newest, [charge("b"), charge("a")], "older"))).toBe("dcba");
  });

  test("a line says where it ran, how long at a price, and how it ended", () => {
    const interval = { startedAtMs: 1_000n, chargedUntilMs: 32_600n, endedAtMs: 40_000n };
    const attempts = [{ runnerName: "box-1", interval, endedPosition: 9n }];
    expect(chargeLine(create(ChargeSchema, { attempts }))).toBe("box-1, ran 31.6 s, finished");
    const killed = [{ ...attempts[0], reason: EndReason.CONNECTION_LOST, interval: { ...interval, presumed: true } }];
    expect(chargeLine(create(ChargeSchema, { attempts: killed }))).toBe("box-1, ran 31.6 s, presumed, connection lost");
    expect(chargeLine(create(ChargeSchema, { attempts, running: true }))).toBe("box-1, ran 31.6 s, runs");
    expect(chargeLine(create(ChargeSchema, { attempts: [...attempts, ...killed] }))).toContain("2 attempts");
  });

  test("a rate is told as the sum that it is", () => {
    const gpu = (type: string, multiplierMicros: bigint) => ({ type, multiplierMicros });
    const attempt = create(ExplainedAttemptSchema, {
      gpus: [gpu("NVIDIA A10G", 2_500_000n), gpu("Tesla T4", 1_000_000n), gpu("NVIDIA A10G", 2_500_000n)],
      evaluationFactorMicros: 1_500_000n,
    });
    expect(rateWords(attempt)).toBe("2.5 × 2 (NVIDIA A10G) + 1 (Tesla T4), × 1.5 for advanced evaluation");
    expect(rateWords(create(ExplainedAttemptSchema, { evaluationFactorMicros: 1_000_000n }))).toBe(
      "the event lists no GPUs",
    );
  });

  test("times in each kind of interval are summed over the attempts", () => {
    const intervals = (...made: [Kind, bigint, bigint][]) =>
      create(ExplainedAttemptSchema, { intervals: made.map(([kind, fromMs, toMs]) => ({ kind, fromMs, toMs })) });
    const times = timesByKind([
      intervals([Kind.CUT_OFF, 5n, 9n], [Kind.CONNECTED, 0n, 5n]),
      intervals([Kind.CONNECTED, 0n, 2n]),
    ]);
    expect(times).toEqual([
      { kind: Kind.CONNECTED, ms: 7n },
      { kind: Kind.CUT_OFF, ms: 4n },
    ]);
  });
});
