// Calendar months in UTC, as the quota counts them, and moments told in UTC. Pure.

export const DAY_MS = 86_400_000;

/** `2026-11` of a moment. */
export function monthOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 7);
}

/** First millisecond of a month such as `2026-11`, and of the one after it; undefined for what is no month. */
export function bounds(month: string): { startMs: number; endMs: number } | undefined {
  const found = /^(\d{4})-(0[1-9]|1[0-2])$/.exec(month);
  if (found === null) return undefined;
  const [year, number] = [Number(found[1]), Number(found[2])];
  return { startMs: Date.UTC(year, number - 1), endMs: Date.UTC(year, number) };
}

/** The month so many later; earlier where the number is negative. */
export function shifted(month: string, by: number): string {
  const [year = 0, number = 1] = month.split("-").map(Number);
  return monthOf(Date.UTC(year, number - 1 + by));
}

const named = new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" });

/** `November 2026`; what is no month as it came. */
export function monthName(month: string): string {
  const found = bounds(month);
  return found === undefined ? month : named.format(found.startMs);
}

/** `2026-11-22 14:03:07.250`: to the millisecond, because that is what is charged. */
export function utc(atMs: number | bigint): string {
  return new Date(Number(atMs)).toISOString().slice(0, 23).replace("T", " ");
}

// The last moment that a date of JavaScript can be.
const LAST_MS = 8.64e15;

/** The moment that an address names in Unix milliseconds; zero where it names none. */
export function momentOf(text: string | undefined): number {
  return text !== undefined && /^\d{1,16}$/.test(text) && Number(text) <= LAST_MS ? Number(text) : 0;
}

/** What a field for date and time shows of a moment, in local time; empty for zero. */
export function localInput(atMs: number): string {
  if (atMs <= 0) return "";
  const local = new Date(atMs - new Date(atMs).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

/** The moment that a field for date and time names, in local time; zero where it names none. */
export function fromLocalInput(text: string): number {
  const atMs = new Date(text).getTime();
  return Number.isFinite(atMs) ? atMs : 0;
}
