// The month's minutes as a curve, and where it goes if things go on as they do. Pure.
import { MS_MICROS_PER_MILLIMINUTE } from "./amounts";
import { bounds, DAY_MS } from "./month";

/** So many minutes were used at a moment, in milliseconds × millionths. */
export interface Point {
  readonly atMs: number;
  readonly used: bigint;
}

export interface Forecast {
  /** What it supposes: the trainings that run go on, or days are as the past ones were. */
  readonly by: "running" | "average";
  /** Minutes × 1000 an hour. */
  readonly perHour: bigint;
  /** Used at the end of the month, minutes × 1000. */
  readonly atEnd: bigint;
  /** When the quota is used up; zero: not in this month, or there is none. */
  readonly usedUpAtMs: number;
}

export interface Burn {
  readonly startMs: number;
  readonly endMs: number;
  /** Up to where it is known: today, or the end of a month that is over. */
  readonly untilMs: number;
  readonly points: readonly Point[];
  /** Empty for a month that is over. */
  readonly forecasts: readonly Forecast[];
  /** Days that the average is of, today's part counted as it is. */
  readonly averageDays: number;
}

interface Known {
  readonly period: string;
  readonly asOfMs: number;
  readonly used: bigint;
  readonly quota: bigint | undefined;
  readonly burnPerHour: bigint;
  /** When the quota is used up if what runs goes on, by the platform's own reckoning; zero: not in this month. */
  readonly exhaustedAtMs: number;
  /** Days such as `2026-11-22` with their sums; what no day is known of has an empty key. */
  readonly days: readonly { readonly key: string; readonly chargedMsMicros: bigint }[];
}

// The average is of so many days: long enough for a week-end, short enough to follow a change.
const AVERAGE_DAYS = 7;
const HOUR_MS = 3_600_000;

/** Undefined where the period is no month. `used` and `quota` are minutes × 1000. */
export function burnOf(known: Known): Burn | undefined {
  const month = bounds(known.period);
  if (month === undefined) return undefined;
  const untilMs = Math.min(Math.max(known.asOfMs, month.startMs), month.endMs);
  const byDay = new Map(known.days.map((day) => [day.key, day.chargedMsMicros]));
  // Adjustments have no day of their own: they count from the first on.
  let used = byDay.get("") ?? 0n;
  const points: Point[] = [{ atMs: month.startMs, used }];
  for (let dayMs = month.startMs; dayMs < untilMs; dayMs += DAY_MS) {
    used += byDay.get(new Date(dayMs).toISOString().slice(0, 10)) ?? 0n;
    points.push({ atMs: Math.min(dayMs + DAY_MS, untilMs), used });
  }
  const averageDays = Math.min(AVERAGE_DAYS, Math.ceil((untilMs - month.startMs) / DAY_MS));
  const fromMs = Math.max(Math.floor((untilMs - 1) / DAY_MS + 1 - averageDays) * DAY_MS, month.startMs);
  return {
    ...month,
    untilMs,
    points,
    averageDays,
    forecasts: untilMs < month.endMs ? forecasts(known, points, fromMs, untilMs, month.endMs) : [],
  };
}

function forecasts(
  known: Known,
  points: readonly Point[],
  fromMs: number,
  untilMs: number,
  endMs: number,
): readonly Forecast[] {
  const found: Forecast[] = [];
  const atEnd = (perHour: bigint) => known.used + (perHour * BigInt(Math.round(endMs - untilMs))) / BigInt(HOUR_MS);
  if (known.burnPerHour > 0n)
    found.push({
      by: "running",
      perHour: known.burnPerHour,
      atEnd: atEnd(known.burnPerHour),
      usedUpAtMs: known.exhaustedAtMs,
    });
  const before = points.findLast((point) => point.atMs <= fromMs)?.used ?? 0n;
  const gained = (points.at(-1)?.used ?? 0n) - before;
  const spanMs = BigInt(Math.max(Math.round(untilMs - fromMs), 1));
  const average = (gained * BigInt(HOUR_MS)) / (MS_MICROS_PER_MILLIMINUTE * spanMs);
  if (average > 0n)
    found.push({
      by: "average",
      perHour: average,
      atEnd: atEnd(average),
      usedUpAtMs: usedUpAt(known, average, untilMs, endMs),
    });
  return found;
}

function usedUpAt(known: Known, perHour: bigint, untilMs: number, endMs: number): number {
  if (known.quota === undefined) return 0;
  if (known.used >= known.quota) return untilMs;
  const atMs = untilMs + Number(((known.quota - known.used) * BigInt(HOUR_MS)) / perHour);
  return atMs < endMs ? atMs : 0;
}
