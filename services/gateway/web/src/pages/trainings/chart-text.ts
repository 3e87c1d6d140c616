// Charts in words. Pure.
import { duration, integer, measured } from "../../format";
import { type Axis, type Cell, type Points, valueAt } from "./chart-data";

/** `step 1,234`, `12:31 after the start`. */
export function placeName(axis: Axis, x: number): string {
  return axis === "step" ? `step ${integer(Math.round(x))}` : `${duration(x * 1000)} after the start`;
}

/** A value as people read it; a gap is what is no number. */
export function cellText(name: string, value: Cell): string {
  return value === undefined ? "–" : value === null ? "not a number" : measured(name, value);
}

/** What a line does, for those who do not see it: `training from 2.3112 to 0.0056, lowest 0.0033, highest 2.3112`. */
export function lineSummary(label: string, name: string, measuredValues: readonly number[]): string {
  const values = measuredValues.filter(Number.isFinite);
  const [first, last] = [values[0], values.at(-1)];
  if (first === undefined || last === undefined) return `${label} has no value that is a number`;
  let [low, high] = [first, first];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const text = (value: number) => measured(name, value);
  const broken = values.length < measuredValues.length ? ", with gaps where it was no number" : "";
  if (values.length === 1) return `${label} ${text(first)}${broken}`;
  return `${label} from ${text(first)} to ${text(last)}, lowest ${text(low)}, highest ${text(high)}${broken}`;
}

/** One sentence for the whole chart. */
export function chartSummary(
  title: string,
  axis: Axis,
  lines: readonly { readonly label: string; readonly name: string; readonly points: Points }[],
): string {
  const ends = lines.flatMap(({ points: { xs } }) => [xs[0], xs.at(-1)]).filter((x) => x !== undefined);
  if (ends.length === 0) return `${title}: nothing was measured yet.`;
  const range = `${placeName(axis, Math.min(...ends))} to ${placeName(axis, Math.max(...ends))}`;
  return `${title}, ${range}: ${lines.map((line) => lineSummary(line.label, line.name, line.points.values)).join("; ")}.`;
}

/** What each line says at an index: the values of a legend. */
export function legendValues(columns: readonly (readonly Cell[])[], index: number): Cell[] {
  return columns.map((column) => valueAt(column, index));
}
