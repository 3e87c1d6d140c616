// Where the lines of the burn-down chart lie, in pixels. Pure.
import { MS_MICROS_PER_MINUTE } from "./amounts";
import type { Burn, Forecast } from "./burn";
import { DAY_MS } from "./month";
import { WARNINGS } from "./thresholds";

export interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Spot {
  readonly x: number;
  readonly y: number;
  readonly atMs: number;
  /** Minutes left, or used where there is no quota. */
  readonly value: number;
}

export interface Layout {
  readonly frame: Frame;
  readonly spots: readonly Spot[];
  readonly forecasts: readonly { readonly by: Forecast["by"]; readonly from: Spot; readonly to: Spot }[];
  readonly days: readonly { readonly x: number; readonly label: string }[];
  readonly levels: readonly { readonly y: number; readonly label: string }[];
  /** Where the platform warns: 75 % and 90 % of the quota; none without one. */
  readonly thresholds: readonly { readonly y: number; readonly percent: number }[];
}

const MARGIN = { left: 58, right: 14, top: 14, bottom: 26 };
const DAY_LABEL_PX = 34;
// A forecast that rises out of all proportion is cut off rather than press the past flat.
const STEEPEST = 4;

/** `quota` in minutes; undefined: the chart shows what was used. */
export function layOut(burn: Burn, quota: number | undefined, width: number, height: number): Layout {
  const frame: Frame = {
    left: MARGIN.left,
    right: Math.max(width - MARGIN.right, MARGIN.left + 1),
    top: MARGIN.top,
    bottom: height - MARGIN.bottom,
  };
  const shownOf = (used: number) => (quota === undefined ? used : quota - used);
  const values = burn.points.map((point) => shownOf(inMinutes(point.used)));
  const last = values.at(-1) ?? 0;
  const ends = burn.forecasts.map((one) => shownOf(Number(one.atEnd) / 1000));
  const low = Math.min(0, ...values);
  const high = quota ?? Math.min(Math.max(...values, ...ends), Math.max(...values) * STEEPEST);
  const step = niceStep(Math.max(high, ...values, 1e-3) - low, 5);
  const [bottom, top] = [Math.floor(low / step) * step, Math.ceil(Math.max(high, ...values, step) / step) * step];
  const x = (atMs: number) =>
    frame.left + ((atMs - burn.startMs) / (burn.endMs - burn.startMs)) * (frame.right - frame.left);
  const y = (value: number) => frame.bottom - ((value - bottom) / (top - bottom)) * (frame.bottom - frame.top);
  const spot = (atMs: number, value: number): Spot => ({ x: x(atMs), y: y(value), atMs, value });
  const from = spot(burn.untilMs, last);
  return {
    frame,
    spots: burn.points.map((point, index) => spot(point.atMs, values[index] ?? 0)),
    forecasts: burn.forecasts.map((one, index) => {
      // A line goes no further than the frame: to zero where the quota ends, to the top where it is too steep.
      const end = ends[index] ?? last;
      const limit = end < last ? Math.min(Math.max(end, 0), last) : Math.min(end, Math.max(top, last));
      const part = end === last ? 1 : (limit - last) / (end - last);
      return { by: one.by, from, to: spot(burn.untilMs + (burn.endMs - burn.untilMs) * part, limit) };
    }),
    days: dayLabels(burn, frame.right - frame.left).map((atMs) => ({
      x: x(atMs + DAY_MS / 2),
      label: String(new Date(atMs).getUTCDate()),
    })),
    levels: Array.from({ length: Math.round((top - bottom) / step) + 1 }, (_, index) => {
      const value = bottom + index * step;
      return { y: y(value), label: levelLabel(value, step) };
    }),
    thresholds:
      quota === undefined || quota === 0
        ? []
        : WARNINGS.map((percent) => ({ percent, y: y(quota * (1 - percent / 100)) })),
  };
}

/** The spot nearest to an x, for a reader who points at it. */
export function nearestSpot(spots: readonly Spot[], x: number): Spot | undefined {
  return spots.reduce<Spot | undefined>(
    (best, one) => (best === undefined || Math.abs(one.x - x) < Math.abs(best.x - x) ? one : best),
    undefined,
  );
}

function inMinutes(msMicros: bigint): number {
  return Number(msMicros) / Number(MS_MICROS_PER_MINUTE);
}

/** 1, 2 or 5 times a power of ten, so that there are at most about so many steps. */
function niceStep(range: number, steps: number): number {
  const rough = range / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
}

function levelLabel(value: number, step: number): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(
    Math.abs(value) < step / 2 ? 0 : value,
  );
}

function dayLabels(burn: Burn, width: number): number[] {
  const days = Math.round((burn.endMs - burn.startMs) / DAY_MS);
  const every = [1, 2, 5, 7, 10].find((step) => (days / step) * DAY_LABEL_PX <= width) ?? 14;
  return Array.from({ length: Math.ceil(days / every) }, (_, index) => burn.startMs + index * every * DAY_MS);
}
