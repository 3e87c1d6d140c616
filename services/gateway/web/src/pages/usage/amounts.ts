// Exact amounts of compute minutes. Sums are bigints of milliseconds × millionths until they are displayed. Pure.

/** A minute in milliseconds × millionths. */
export const MS_MICROS_PER_MINUTE = 60_000_000_000n;
export const MS_MICROS_PER_MILLIMINUTE = 60_000_000n;

// As the quota service has it: beyond this it is a mistake, and "unlimited" is said otherwise.
const MOST = 10n ** 15n;

/** Minutes with as many digits as tell sums apart: `3.952500`. */
export function exact(msMicros: bigint): string {
  const sign = msMicros < 0n ? "−" : "";
  // Millionths of a minute, rounded half away from zero.
  const millionths = ((msMicros < 0n ? -msMicros : msMicros) + 30_000n) / 60_000n;
  const whole = new Intl.NumberFormat("en").format(millionths / 1_000_000n);
  return `${sign}${whole}.${String(millionths % 1_000_000n).padStart(6, "0")}`;
}

/** `0:31.620`, `1:02:03.250`. */
export function exactSpan(ms: bigint): string {
  const all = ms < 0n ? 0n : ms;
  const two = (n: bigint) => String(n).padStart(2, "0");
  const [seconds, minutes, hours] = [(all / 1000n) % 60n, (all / 60_000n) % 60n, all / 3_600_000n];
  const clock = hours > 0n ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
  return `${clock}.${String(all % 1000n).padStart(3, "0")}`;
}

/** What a person typed as minutes, × 1000 and exact; or one sentence of what is wrong with it. */
export function parsedMinutes(text: string): { milliminutes: bigint } | { problem: string } {
  const typed = text.trim().replaceAll(",", "").replace("−", "-");
  const found = /^([+-]?)(\d{1,15})(?:\.(\d*))?$/.exec(typed);
  if (typed === "") return { problem: "Write a number of minutes, for example 600." };
  if (found === null) return { problem: `“${text.trim()}” is not a number of minutes; write for example 600.` };
  const [, sign = "", whole = "", decimals = ""] = found;
  if (decimals.length > 3) return { problem: "Minutes have at most three digits after the point." };
  const amount = BigInt(whole) * 1000n + BigInt(decimals.padEnd(3, "0"));
  if (amount > MOST) return { problem: "These are more minutes than anybody has." };
  return { milliminutes: sign === "-" ? -amount : amount };
}

/** `600`, `12.5`, `-0.034`: what a field of minutes is filled with. */
export function asTyped(milliminutes: bigint): string {
  const sign = milliminutes < 0n ? "-" : "";
  const all = milliminutes < 0n ? -milliminutes : milliminutes;
  const decimals = String(all % 1000n)
    .padStart(3, "0")
    .replace(/0+$/, "");
  return `${sign}${all / 1000n}${decimals ? `.${decimals}` : ""}`;
}

/** The share that a part is of a whole; zero where there is no whole. */
export function shareOf(part: bigint, whole: bigint): number {
  return whole > 0n ? Number(part) / Number(whole) : 0;
}
