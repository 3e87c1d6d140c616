import { describe, expect, test } from "vitest";
import { MS_MICROS_PER_MINUTE } from "../src/pages/usage/amounts";
import { burnOf } from "../src/pages/usage/burn";
import { layOut, nearestSpot } from "../src/pages/usage/burn-layout";
import { DAY_MS } from "../src/pages/usage/month";

const START = Date.UTC(2026, 10, 1);
const END = Date.UTC(2026, 11, 1);
const HOUR_MS = 3_600_000;

const minutes = (number: number) => BigInt(number) * MS_MICROS_PER_MINUTE;
const day = (number: number, used: number) => ({
  key: `2026-11-${String(number).padStart(2, "0")}`,
  chargedMsMicros: minutes(used),
});

function burn(more: Partial<Parameters<typeof burnOf>[0]> = {}) {
  const made = burnOf({
    period: "2026-11",
    asOfMs: START + 10 * DAY_MS + 12 * HOUR_MS,
    used: 100_000n,
    quota: 600_000n,
    burnPerHour: 0n,
    exhaustedAtMs: 0,
    days: [day(2, 30), day(9, 50), day(11, 20)],
    ...more,
  });
  if (made === undefined) throw new Error("no month");
  return made;
}

describe("the curve of a month", () => {
  test("begins at the month's first moment, never falls by itself, and ends where everything is counted", () => {
    const { points, untilMs } = burn();
    expect(points[0]).toEqual({ atMs: START, used: 0n });
    expect(points.at(-1)).toEqual({ atMs: untilMs, used: minutes(100) });
    for (const [index, point] of points.entries()) {
      const before = points[index - 1];
      if (before === undefined) continue;
      expect(point.used >= before.used).toBe(true);
      expect(point.atMs).toBeGreaterThan(before.atMs);
    }
  });

  test("a day's minutes are used up at its end", () => {
    const at = (ms: number) => burn().points.find((point) => point.atMs === ms)?.used;
    expect(at(START + DAY_MS)).toBe(0n);
    expect(at(START + 2 * DAY_MS)).toBe(minutes(30));
    expect(at(START + 9 * DAY_MS)).toBe(minutes(80));
  });

  test("adjustments without a day count from the first on", () => {
    const { points } = burn({ days: [day(2, 30), { key: "", chargedMsMicros: -minutes(5) }] });
    expect(points[0]?.used).toBe(-minutes(5));
    expect(points.at(-1)?.used).toBe(minutes(25));
  });

  test("a month that is over is whole and foresees nothing", () => {
    const over = burn({ asOfMs: END + 40 * DAY_MS, burnPerHour: 9_000n });
    expect(over.untilMs).toBe(END);
    expect(over.points).toHaveLength(31);
    expect(over.forecasts).toEqual([]);
  });

  test("at its first moment there is nothing to foresee, and nothing is divided by zero", () => {
    const first = burn({ asOfMs: START, used: 0n, days: [] });
    expect(first.points).toEqual([{ atMs: START, used: 0n }]);
    expect(first.forecasts).toEqual([]);
  });

  test("what is no month has no curve", () => {
    expect(burnOf({ ...known, period: "soon" })).toBeUndefined();
  });
});

const known = {
  period: "2026-11",
  asOfMs: START,
  used: 0n,
  quota: undefined,
  burnPerHour: 0n,
  exhaustedAtMs: 0,
  days: [],
};

describe("forecasts", () => {
  test("what runs goes on to the end of the month, and is used up when the platform says", () => {
    const exhaustedAtMs = START + 11 * DAY_MS;
    const [running] = burn({ burnPerHour: 60_000n, exhaustedAtMs, days: [] }).forecasts;
    // 19.5 days of 24 hours of 60 minutes.
    expect(running).toEqual({
      by: "running",
      perHour: 60_000n,
      atEnd: 100_000n + 28_080_000n,
      usedUpAtMs: exhaustedAtMs,
    });
  });

  test("the average is of the last seven days, today's part counted as it is", () => {
    const made = burn();
    const [average] = made.forecasts;
    // The 5th to the 11th at noon: 70 minutes in 6.5 days.
    expect(made.averageDays).toBe(7);
    expect(average?.by).toBe("average");
    expect(average?.perHour).toBe((70_000n * 10n) / 1_560n);
    expect(average?.usedUpAtMs).toBe(0);
  });

  test("early in a month the average is of what there is of it", () => {
    const made = burn({ asOfMs: START + DAY_MS + 12 * HOUR_MS, used: 36_000n, days: [day(1, 24), day(2, 12)] });
    expect(made.averageDays).toBe(2);
    expect(made.forecasts).toMatchObject([{ by: "average", perHour: 1_000n }]);
  });

  test("says when the quota is used up: at once where it is already, never without one", () => {
    const days = [day(11, 100)];
    const soon = burn({ days, quota: 200_000n }).forecasts[0];
    expect(soon?.usedUpAtMs).toBeGreaterThan(START + 10.5 * DAY_MS);
    expect(soon?.usedUpAtMs).toBeLessThan(END);
    expect(burn({ days, quota: 50_000n }).forecasts[0]?.usedUpAtMs).toBe(START + 10.5 * DAY_MS);
    expect(burn({ days, quota: undefined }).forecasts[0]?.usedUpAtMs).toBe(0);
  });

  test("refunds that outweigh what was used foresee nothing", () => {
    expect(burn({ days: [day(11, -5)] }).forecasts).toEqual([]);
  });
});

describe("the chart", () => {
  const cases = {
    quota: { made: burn({ burnPerHour: 60_000n, exhaustedAtMs: START + 11 * DAY_MS }), quota: 600 },
    "no quota": { made: burn({ quota: undefined, burnPerHour: 60_000_000n }), quota: undefined },
    "more used than the quota": { made: burn({ quota: 10_000n, burnPerHour: 5_000n }), quota: 10 },
    "nothing at all": { made: burn({ days: [], used: 0n, quota: undefined }), quota: undefined },
    "a quota of zero": { made: burn({ days: [], used: 0n, quota: 0n }), quota: 0 },
    "refunds only": { made: burn({ days: [day(3, -40)], quota: undefined }), quota: undefined },
  };

  test.each(Object.entries(cases))("%s: everything lies within the frame, whatever the width", (_, { made, quota }) => {
    for (const width of [120, 390, 1900]) {
      const { frame, spots, forecasts, levels, thresholds, days } = layOut(made, quota, width, 260);
      for (const { x, y } of [...spots, ...forecasts.flatMap(({ from, to }) => [from, to])]) {
        expect(x).toBeGreaterThanOrEqual(frame.left);
        expect(x).toBeLessThanOrEqual(frame.right + 1e-6);
        expect(y).toBeGreaterThanOrEqual(frame.top - 1e-6);
        expect(y).toBeLessThanOrEqual(frame.bottom + 1e-6);
      }
      for (const { y } of [...levels, ...thresholds]) expect(Number.isFinite(y)).toBe(true);
      expect(levels.length).toBeGreaterThan(1);
      expect(levels.length).toBeLessThan(14);
      expect(new Set(levels.map((level) => level.label)).size).toBe(levels.length);
      expect(days.length).toBeGreaterThan(2);
    }
  });

  test("with a quota the line falls from it; without one it rises from nothing", () => {
    const left = layOut(cases.quota.made, 600, 800, 260).spots;
    expect([left[0]?.value, left.at(-1)?.value]).toEqual([600, 500]);
    const used = layOut(cases["no quota"].made, undefined, 800, 260).spots;
    expect([used[0]?.value, used.at(-1)?.value]).toEqual([0, 100]);
  });

  test("a forecast ends where the quota does, at the time that its slope says", () => {
    const { forecasts } = layOut(cases.quota.made, 600, 800, 260);
    const [running, average] = forecasts;
    expect(running?.to.value).toBe(0);
    // 500 minutes left at 60 an hour.
    expect(running?.to.atMs).toBeCloseTo(cases.quota.made.untilMs + (500 / 60) * HOUR_MS, -4);
    expect(average?.to.atMs).toBe(END);
    expect(average?.to.value).toBeGreaterThan(0);
  });

  test("who points at it gets the nearest day", () => {
    const { spots } = layOut(cases.quota.made, 600, 800, 260);
    expect(nearestSpot(spots, -50)).toBe(spots[0]);
    expect(nearestSpot(spots, 5_000)).toBe(spots.at(-1));
    expect(nearestSpot(spots, (spots[3]?.x ?? 0) + 1)).toBe(spots[3]);
    expect(nearestSpot([], 5)).toBeUndefined();
  });
});
