import uPlot from "uplot";
import { duration, measured } from "../../format";
import { colour } from "../../theme";
import type { Axis, Range } from "./chart-data";
import { areFew, roomy } from "./chart-data";
import { colourOf, dashOf } from "./chart-style";

/** One line of a chart: its values, and those as they were before they were smoothed. */
export interface Look {
  /** Name of the series, which tells its unit. */
  readonly name: string;
  readonly look: number;
  readonly hidden: boolean;
  /** Single points, as evaluations are, are marked where they are few. */
  readonly raw: boolean;
}

export interface ChartSettings {
  readonly looks: readonly Look[];
  readonly axis: Axis;
  readonly log: boolean;
  readonly width: number;
  readonly height: number;
  readonly onSelect: (range: Range) => void;
  readonly onReset: () => void;
  readonly onCursor: (chart: uPlot) => void;
  /** xs of marks below the lines. */
  readonly marks: () => readonly number[];
}

const FONT = '12px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif';
// Seconds between ticks of a time axis.
const TIME_TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800];
const STEP_TICKS = [1, 2, 5]
  .flatMap((n) => Array.from({ length: 12 }, (_, power) => n * 10 ** power))
  .sort((a, b) => a - b);

const BYTE_TICKS = Array.from({ length: 60 }, (_, power) => 2 ** power);

/** Options of uPlot; colours are those of the theme as it is now. */
export function chartOptions(settings: ChartSettings): uPlot.Options {
  const { axis, log, looks } = settings;
  const [text, line] = [colour("--text-2"), colour("--line")];
  const unit = looks[0]?.name ?? "";
  const grid = { stroke: line, width: 1 };
  const common: uPlot.Axis = { stroke: text, font: FONT, grid, ticks: { show: false } };
  return {
    width: settings.width,
    height: settings.height,
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      bind: {
        dblclick: () => () => {
          settings.onReset();
          return null;
        },
      },
      points: { size: 8, fill: (chart, at) => strokeOf(chart, at) },
    },
    scales: {
      x: { time: false },
      y: { distr: log ? 3 : 1, range: (_, low, high) => valueRange(low, high, log, unit) },
    },
    axes: [
      {
        ...common,
        size: 30,
        space: 70,
        incrs: axis === "time" ? TIME_TICKS : STEP_TICKS,
        values: (_, ticks) => ticks.map((x) => (axis === "time" ? duration(x * 1000) : shortNumber(x))),
      },
      {
        ...common,
        incrs: unit.endsWith("_bytes") ? BYTE_TICKS : undefined,
        size: axisWidth,
        gap: 6,
        values: (_, ticks) => ticks.map((y) => (y === null ? "" : tick(unit, y))),
      },
    ],
    series: [
      {},
      ...looks.map(({ look, raw, hidden }): uPlot.Series => {
        const stroke = colour(colourOf(look));
        return {
          show: !hidden,
          stroke,
          width: raw ? 1 : 2,
          // Behind a smoothed line dashes would tell nothing, and cost most of the drawing.
          dash: raw ? [] : dashOf(look),
          alpha: raw ? 0.3 : 1,
          points: {
            show: (chart, at, from, to) => !raw && areFew(chart.data[at] ?? [], from, to),
            size: 6,
            width: 1.5,
            fill: colour("--surface"),
            stroke,
          },
        };
      }),
    ],
    hooks: {
      setSelect: [
        (chart) => {
          const { left, width } = chart.select;
          if (width < 4) return;
          const range: Range = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
          chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          settings.onSelect(range);
        },
      ],
      setCursor: [settings.onCursor],
      draw: [(chart) => drawMarks(chart, settings.marks(), text)],
    },
  };
}

function strokeOf(chart: uPlot, at: number): string {
  const stroke = chart.series[at]?.stroke;
  return typeof stroke === "function" ? String(stroke(chart, at)) : String(stroke ?? "");
}

function valueRange(low: number | null, high: number | null, log: boolean, unit: string): [number, number] {
  if (low === null || high === null || low === undefined || high === undefined) return log ? [0.1, 1] : [0, 1];
  if (log) return uPlot.rangeLog(low, high, 10, false) as [number, number];
  // Shares of something are read against nothing and everything.
  if (unit.endsWith("_percent")) return [0, Math.max(100, high * 1.05)];
  if (unit.endsWith("_bytes")) return [0, roomy([0, high * 1.08])[1]];
  if (low === high) return roomy([low, high]) as [number, number];
  return uPlot.rangeNum(low, high, 0.08, false) as [number, number];
}

function tick(unit: string, y: number): string {
  if (unit.endsWith("_bytes") || unit.endsWith("_percent")) return measured(unit, y);
  if (y !== 0 && (Math.abs(y) < 0.001 || Math.abs(y) >= 1e6)) return Number(y.toPrecision(3)).toExponential();
  return String(Number(y.toPrecision(4)));
}

function shortNumber(x: number): string {
  if (Math.abs(x) >= 1e6) return `${Number((x / 1e6).toPrecision(4))} M`;
  return Math.abs(x) >= 10_000 ? `${Number((x / 1e3).toPrecision(4))} k` : x.toLocaleString("en");
}

function axisWidth(chart: uPlot, values: string[] | null, axisIndex: number): number {
  const longest = (values ?? []).reduce((most, value) => Math.max(most, value?.length ?? 0), 3);
  const axis = chart.axes[axisIndex];
  return Math.ceil(longest * 7) + (axis?.gap ?? 6) + 4;
}

/** Small triangles on the x axis: what was saved there. */
function drawMarks(chart: uPlot, marks: readonly number[], fill: string): void {
  const { ctx, bbox } = chart;
  const size = 5 * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = fill;
  for (const x of marks) {
    const left = chart.valToPos(x, "x", true);
    if (left < bbox.left || left > bbox.left + bbox.width) continue;
    const bottom = bbox.top + bbox.height;
    ctx.beginPath();
    ctx.moveTo(left, bottom - size * 1.4);
    ctx.lineTo(left - size, bottom);
    ctx.lineTo(left + size, bottom);
    ctx.fill();
  }
  ctx.restore();
}
