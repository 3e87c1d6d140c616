// Numbers as people type them: text until they are sent, so that nothing that was typed is lost. Empty is zero, which
// means the default everywhere.
import { integer } from "../../format";

export interface Range {
  readonly min: number;
  readonly max: number;
  readonly whole?: boolean;
}

/** Nothing but a decimal number, in the way that every program writes it: `32`, `0.5`, `3e-4`. */
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** The number that was typed; zero where nothing was, or nothing that is one. */
export function numberOf(text: string): number {
  const typed = text.trim();
  return NUMBER.test(typed) ? Number(typed) : 0;
}

/** A number as a person would type it; zero is empty. */
export function textOf(value: number | bigint): string {
  return Number(value) === 0 ? "" : String(value);
}

/** What is wrong with what was typed, in one sentence; empty: nothing is. `empty` says what an empty field means. */
export function problemOf(text: string, range: Range, empty: string): string {
  const typed = text.trim();
  if (typed === "") return "";
  const value = numberOf(typed);
  const fits = NUMBER.test(typed) && value >= range.min && value <= range.max;
  if (fits && (!range.whole || Number.isSafeInteger(value))) return "";
  const kind = range.whole ? "a whole number" : "a number";
  return `Give ${kind} from ${shown(range.min)} to ${shown(range.max)}, or leave it empty ${empty}.`;
}

function shown(value: number): string {
  return Math.abs(value) >= 1e-4 || value === 0
    ? Number.isInteger(value)
      ? integer(value)
      : String(value)
    : value.toExponential();
}

/** Problems by the path of the request's field, as the platform names it: `limits.epochs`. */
export type Problems = Readonly<Record<string, string>>;

/** `batchSize` of generated code is `batch_size` to the platform. */
export function fieldName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
