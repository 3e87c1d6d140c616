// What is known here of a training's series. Pure: answers come as arguments.
import type { Series } from "../../gen/protos/metrics/v1/metrics_pb";

/** Columns of one series, of the same length; the attempts follow one another. */
export interface Curve {
  steps: number[];
  values: number[];
  /** The box's wall clock, Unix milliseconds. */
  atMs: number[];
}

/** More points than this of one series are asked for anew, reduced. */
export const MOST_POINTS = 4000;

/** Series that are measured on the box by the clock; their steps are milliseconds since their attempt began. */
export function ofBox(name: string): boolean {
  return /^(gpu\d*|cpu|disk|network|process)\//.test(name);
}

export class Curves {
  readonly all = new Map<string, Curve>();

  /** Takes what a watch tells; the first answer of a stream is everything, and replaces what was known. */
  take(series: readonly Series[], fresh: boolean): void {
    if (fresh) this.all.clear();
    for (const one of series) {
      if (one.steps.length === 0) continue;
      const known = this.all.get(one.name);
      const told = curveOf(one);
      if (known === undefined) this.all.set(one.name, told);
      else {
        if (!ofBox(one.name)) cutFrom(known, Math.min(...bounds(told.steps)));
        for (const [n, step] of told.steps.entries()) {
          known.steps.push(step);
          known.values.push(told.values[n] ?? Number.NaN);
          known.atMs.push(told.atMs[n] ?? 0);
        }
      }
    }
  }

  /** Whether some series has more points than a page should keep. */
  get tooLong(): boolean {
    return [...this.all.values()].some((curve) => curve.steps.length > MOST_POINTS);
  }

  /** Names of series in order, those of the training or those of its box. */
  names(box: boolean): string[] {
    return [...this.all.keys()].filter((name) => ofBox(name) === box).sort((a, b) => a.localeCompare(b));
  }

  /** The series that steps and times are translated by: the longest of the training. */
  get reference(): Curve | undefined {
    let found: Curve | undefined;
    for (const [name, curve] of this.all)
      if (!ofBox(name) && curve.steps.length > (found?.steps.length ?? 0)) found = curve;
    return found;
  }

  /** When the first point was measured, Unix milliseconds; zero without any. */
  get beganMs(): number {
    let first = 0;
    for (const { atMs } of this.all.values()) {
      const at = atMs[0] ?? 0;
      if (at > 0 && (first === 0 || at < first)) first = at;
    }
    return first;
  }
}

export function curveOf(series: Series): Curve {
  return {
    steps: series.steps.map(Number),
    values: [...series.values],
    atMs: series.atMs.map(Number),
  };
}

/** Forgets what lies at a step and behind it: an attempt that goes on from a checkpoint makes these steps again. */
function cutFrom(curve: Curve, step: number): void {
  let kept = curve.steps.length;
  while (kept > 0 && (curve.steps[kept - 1] ?? 0) >= step) kept -= 1;
  curve.steps.length = kept;
  curve.values.length = kept;
  curve.atMs.length = kept;
}

function bounds(numbers: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const number of numbers) {
    low = Math.min(low, number);
    high = Math.max(high, number);
  }
  return [low, high];
}
