// Numbers, times and names as people read them. Pure: `now` is always an argument. The command line tells the same
// things with the same words (services/words).
import type { Inventory } from "./gen/protos/common/v1/inventory_pb";

const MICROS = 1_000_000;

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** `1 epoch`, `1,320 steps`. */
export function count(number: number | bigint, unit: string): string {
  return `${plain.format(number)} ${unit}${Number(number) === 1 ? "" : "s"}`;
}

/** `1,320`. */
export function integer(number: number | bigint): string {
  return plain.format(number);
}

/** `0:42`, `12:31`, `1:02:03`; negative is zero. */
export function duration(ms: number): string {
  const total = Math.max(Math.floor(ms / 1000), 0);
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

/** How long something took: `1.9 s`, from a minute on `12:31`. */
export function span(ms: number): string {
  return ms < 60_000 ? `${(Math.max(ms, 0) / 1000).toFixed(1)} s` : duration(ms);
}

/** `just now`, `4 min ago`, `3 h ago`, `5 days ago`; `never` for zero. */
export function ago(atMs: number, nowMs: number): string {
  if (!atMs) return "never";
  const seconds = Math.floor(Math.max(nowMs - atMs, 0) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return `${days} day${days === 1 ? "" : "s"} ago`;
}

const dateTime = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const timeOfDay = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });

/** Local date and time, `2026-11-05 14:03:07`; `never` for zero. */
export function moment(atMs: number): string {
  return atMs ? dateTime.format(atMs) : "never";
}

/** Local time of day, `14:03:07`. */
export function clockTime(atMs: number): string {
  return timeOfDay.format(atMs);
}

/** `512 B`, `3.4 MiB`, `24 GiB`. */
export function size(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = "B";
  for (unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024 || unit === "TiB") break;
    value /= 1024;
  }
  return `${unit === "B" || value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}

/** Compute minutes, finer where they are few: `0.34`, `35.2`, `1,240`. Halves go away from zero. */
export function minutes(milliminutes: number | bigint): string {
  const exact = typeof milliminutes === "bigint" ? milliminutes : BigInt(Math.round(milliminutes));
  const size = exact < 0n ? -exact : exact;
  const digits = size >= 1_000_000n ? 0 : size < 10_000n ? 2 : 1;
  // In integers: 0.015 as a fraction of two is a little less.
  const step = 10n ** BigInt(3 - digits);
  const rounded = Number((2n * size + step) / (2n * step)) / 10 ** digits;
  const text = rounded.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return exact < 0n ? `-${text}` : text;
}

/** `2.5 minutes a minute`: compute minutes for each minute of the clock. */
export function rate(micros: number | bigint): string {
  const value = trimmed(Number(micros) / MICROS, 3);
  return `${value} minute${value === "1" ? "" : "s"} a minute`;
}

/** `×2.5`. */
export function factor(micros: number | bigint): string {
  return `×${trimmed(Number(micros) / MICROS, 3)}`;
}

/** Compute minutes × 1000 of a sum of milliseconds × millionths, rounded half up as the quota service does. */
export function chargedMilliminutes(msMicros: bigint): bigint {
  const unit = 60n * BigInt(MICROS);
  const doubled = 2n * msMicros + unit;
  const quotient = doubled / (2n * unit);
  // Division of bigints cuts towards zero; rounding half up goes down.
  return doubled < 0n && doubled % (2n * unit) !== 0n ? quotient - 1n : quotient;
}

/** A metric with four significant digits: `0.9833`, `12.35`, `1.2e-5`. */
export function metric(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  if (Math.abs(value) < 10) return value.toFixed(4);
  return Math.abs(value) < 1e6 ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : value.toExponential(3);
}

/** `97.3 %` of a share of one. */
export function percent(share: number, digits = 1): string {
  return `${(share * 100).toFixed(digits)} %`;
}

const ABBREVIATIONS: Record<string, string> = { map: "mAP", miou: "mIoU", iou: "IoU", ar: "AR", f1: "F1", gpu: "GPU" };

/** `validation/accuracy` is `accuracy` to people, `validation/map_50` is `mAP 50`. */
export function metricName(name: string): string {
  return name
    .replace(/^validation\//, "")
    .split("_")
    .map((word) => ABBREVIATIONS[word] ?? word)
    .join(" ");
}

/** The value of a series with the unit that its name ends in. */
export function measured(name: string, value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (name.endsWith("_bytes")) return size(Math.round(value));
  for (const [ending, unit] of [
    ["_percent", " %"],
    ["_celsius", " °C"],
    ["_watts", " W"],
    ["_mhz", " MHz"],
  ] as const)
    if (name.endsWith(ending)) return `${value.toFixed(0)}${unit}`;
  return metric(value);
}

/** The metric of each task that tells most. */
export const PRIMARY_METRICS = ["validation/accuracy", "validation/map", "validation/miou"];
export const VALIDATION_LOSS = "validation/loss";

/** Names of metrics: the task's own, the others, the loss. */
export function byImportance(names: readonly string[]): string[] {
  const weight = (name: string) => (PRIMARY_METRICS.includes(name) ? 0 : name.endsWith("loss") ? 2 : 1);
  return [...names].sort((a, b) => weight(a) - weight(b) || a.localeCompare(b));
}

/** `NVIDIA A10G ×2`; several kinds are joined with +, simulated ones are marked. Empty without an inventory. */
export function gpus(inventory: Inventory | undefined): string {
  if (inventory === undefined) return "";
  const kinds = new Map<string, number>();
  for (const gpu of inventory.gpus) kinds.set(gpu.type, (kinds.get(gpu.type) ?? 0) + 1);
  return [...kinds].map(([kind, number]) => `${kind} ×${number}`).join(" + ");
}

/** VRAM of the runner's smallest GPU, in bytes: what a training has on each. */
export function vramPerGpu(inventory: Inventory | undefined): number {
  const sizes = inventory?.gpus.map((gpu) => Number(gpu.vramBytes)) ?? [];
  return sizes.length > 0 ? Math.min(...sizes) : 0;
}

/** `CHECKPOINT_POLICY_BEST_METRIC` of an enum → `best metric`; a value of a newer platform as its number. */
export function words(names: Record<number, string>, value: number): string {
  return (names[value] ?? `number ${value}`).replaceAll("_", " ").toLowerCase();
}

/** A server's sentence as it stands by itself: it begins with a capital. */
export function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Enough of an id to name it by: its prefix and eight characters. */
export function shortId(id: string): string {
  const [prefix, rest] = id.split("_", 2);
  return rest === undefined ? id.slice(0, 8) : `${prefix}_${rest.slice(0, 8)}`;
}

function trimmed(value: number, digits: number): string {
  return value.toFixed(digits).replace(/\.?0+$/, "");
}
