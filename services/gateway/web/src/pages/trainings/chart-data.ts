// What a chart draws, computed: columns on one x axis, smoothing, ranges. Pure.
import type { Curve } from "./curves";

export type Axis = "step" | "time";
/** A range of the x axis, both ends included. */
export type Range = readonly [number, number];
/** A number; null: a gap in the line; undefined: nothing was measured here, the line goes on. */
export type Cell = number | null | undefined;

export interface Points {
  readonly xs: readonly number[];
  readonly values: readonly number[];
}

/** A curve over steps, or over seconds since a moment. Times may go back where a clock was set: they are sorted. */
export function over(axis: Axis, curve: Curve, beganMs: number): Points {
  if (axis === "step") return { xs: curve.steps, values: curve.values };
  const xs = curve.atMs.map((at) => (at - beganMs) / 1000);
  if (xs.every((x, n) => n === 0 || x >= (xs[n - 1] ?? x))) return { xs, values: curve.values };
  const order = xs.map((_, n) => n).sort((a, b) => (xs[a] ?? 0) - (xs[b] ?? 0));
  return { xs: order.map((n) => xs[n] ?? 0), values: order.map((n) => curve.values[n] ?? Number.NaN) };
}

/**
 * Several curves as columns on all their xs, which are in order in each. Of points at one x the last counts; what is no
 * number is a gap.
 */
export function align(curves: readonly Points[]): { xs: number[]; columns: Cell[][] } {
  const xs: number[] = [];
  const columns: Cell[][] = curves.map(() => []);
  const at = curves.map(() => 0);
  for (;;) {
    let x = Number.POSITIVE_INFINITY;
    for (const [n, curve] of curves.entries()) x = Math.min(x, curve.xs[at[n] ?? 0] ?? x);
    if (x === Number.POSITIVE_INFINITY) return { xs, columns };
    xs.push(x);
    for (const [n, curve] of curves.entries()) {
      let cell: Cell;
      let next = at[n] ?? 0;
      for (; curve.xs[next] === x; next += 1) cell = cellOf(curve.values[next]);
      at[n] = next;
      columns[n]?.push(cell);
    }
  }
}

/** A value as a chart has it: what is no number is a gap. */
export function cellOf(value: number | undefined): Cell {
  return value === undefined || Number.isFinite(value) ? value : null;
}

/**
 * Exponential moving average, corrected for its start so that the first points are not drawn towards zero; `weight` from
 * 0 (none) to below 1. Gaps stay gaps and are not averaged over.
 */
export function smooth(column: readonly Cell[], weight: number): Cell[] {
  if (weight <= 0) return [...column];
  let [sum, mass] = [0, 0];
  return column.map((value) => {
    if (value === null || value === undefined) return value;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

/** For a logarithmic scale: what is not above zero cannot be drawn. */
export function positive(column: readonly Cell[]): Cell[] {
  return column.map((value) => (typeof value === "number" && value <= 0 ? null : value));
}

/** Index of the x nearest to a place; -1 without any. */
export function nearest(xs: readonly number[], x: number): number {
  let [low, high] = [0, xs.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((xs[middle] ?? 0) < x) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && Math.abs((xs[low - 1] ?? 0) - x) <= Math.abs((xs[low] ?? 0) - x)) return low - 1;
  return xs.length === 0 ? -1 : low;
}

/** What a column says at an index: its value there, or the last one before. Undefined before its first. */
export function valueAt(column: readonly Cell[], index: number): number | null | undefined {
  for (let n = Math.min(index, column.length - 1); n >= 0; n -= 1) if (column[n] !== undefined) return column[n];
  return undefined;
}

/** A coarse curve with a finer one in the middle of it: outside of what the finer one covers the coarse one stays. */
export function refined(coarse: Points, fine: Points | undefined): Points {
  const [first, last] = [fine?.xs[0], fine?.xs.at(-1)];
  if (fine === undefined || first === undefined || last === undefined) return coarse;
  const [xs, values]: [number[], number[]] = [[], []];
  const take = (points: Points, wanted: (x: number) => boolean) => {
    for (const [n, x] of points.xs.entries()) {
      if (!wanted(x)) continue;
      xs.push(x);
      values.push(points.values[n] ?? Number.NaN);
    }
  };
  take(coarse, (x) => x < first);
  take(fine, () => true);
  take(coarse, (x) => x > last);
  return { xs, values };
}

/** The steps that a range of the axis reaches over, with a point more at each end so that lines go to the edges. */
export function stepRange(axis: Axis, curve: Curve, beganMs: number, [from, to]: Range): Range | undefined {
  if (axis === "step") return [Math.floor(from), Math.ceil(to)];
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const inside = curve.atMs.map((at) => (at - beganMs) / 1000 >= from && (at - beganMs) / 1000 <= to);
  for (const [n, step] of curve.steps.entries()) {
    if (!inside[n] && !inside[n - 1] && !inside[n + 1]) continue;
    low = Math.min(low, step);
    high = Math.max(high, step);
  }
  return low <= high ? [low, high] : undefined;
}

/** The same place on the other axis, by what a reference curve had at it; undefined without a reference. */
export function translate(x: number, from: Axis, to: Axis, reference: Curve | undefined, beganMs: number) {
  if (from === to) return x;
  if (reference === undefined || reference.steps.length === 0) return undefined;
  const seconds = reference.atMs.map((at) => (at - beganMs) / 1000);
  const [source, target] = from === "step" ? [reference.steps, seconds] : [seconds, reference.steps];
  return interpolated(source, target, x);
}

function interpolated(source: readonly number[], target: readonly number[], x: number): number {
  const after = source.findIndex((one) => one >= x);
  if (after === 0) return target[0] ?? 0;
  if (after < 0) return target.at(-1) ?? 0;
  const [x0, x1, y0, y1] = [source[after - 1] ?? 0, source[after] ?? 0, target[after - 1] ?? 0, target[after] ?? 0];
  return x1 === x0 ? y1 : y0 + ((x - x0) / (x1 - x0)) * (y1 - y0);
}

/** A range that has a width: one point gets room on both sides. */
export function roomy([from, to]: Range): Range {
  if (to > from) return [from, to];
  const margin = Math.max(Math.abs(from) * 0.05, 0.5);
  return [from - margin, to + margin];
}

/** A part of what is shown, `factor` as wide, around a place, and within all that there is. */
export function closer(shown: Range, around: number, factor: number, all: Range): Range {
  const width = (shown[1] - shown[0]) * factor;
  if (width >= all[1] - all[0]) return all;
  const from = Math.min(Math.max(around - width / 2, all[0]), all[1] - width);
  return [from, from + width];
}

const FEW = 30;

/** Whether so few values lie between two indices that each deserves a dot: a line through one would not be seen. */
export function areFew(values: ArrayLike<number | null | undefined>, from: number, to: number): boolean {
  let found = 0;
  for (let at = from; at <= to && found <= FEW; at++) if (Number.isFinite(values[at])) found += 1;
  return found <= FEW;
}
