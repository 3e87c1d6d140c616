import { useSignal } from "@preact/signals";
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colours } from "../../theme";
import css from "./chart.module.css";
import {
  type Axis,
  align,
  type Cell,
  cellOf,
  closer,
  nearest,
  type Points,
  positive,
  type Range,
  roomy,
  smooth,
} from "./chart-data";
import { Legend } from "./chart-legend";
import type { ChartLink, Place } from "./chart-link";
import { chartOptions } from "./chart-options";
import { chartSummary, legendValues, placeName } from "./chart-text";

export interface ChartLine {
  /** Tells the line from the others of the chart. */
  readonly id: string;
  /** Name of the series, whose ending tells the unit. */
  readonly name: string;
  readonly label: string;
  readonly points: Points;
  /** Which colour and dashes. */
  readonly look: number;
}

interface ChartProps {
  title: string;
  lines: readonly ChartLine[];
  axis: Axis;
  /** 0: none, towards 1: ever more. */
  smoothing?: number;
  log?: boolean;
  /** What is shown of the x axis; undefined: everything. */
  range?: Range;
  onZoom?: (range: Range) => void;
  onReset?: () => void;
  link?: ChartLink;
  /** A place on another chart, on the axis of this one. */
  place?: (place: Place) => number | undefined;
  /** xs to be marked, and what the marks mean. */
  marks?: readonly number[];
  marksMean?: string;
  height?: number;
}

/** Lines over steps or time: zoomed by dragging, read by pointing at it or by arrow keys, told in words to readers. */
export function Chart(props: ChartProps) {
  const { title, lines, axis, smoothing = 0, log = false, range, height = 220, link } = props;
  const heading = useId();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const index = useSignal(-1);
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | undefined>(undefined);
  const visible = useVisible(box);
  // What nobody sees is not computed either: a training may have a thousand series.
  const { xs, raw, columns } = useMemo(
    () => (visible ? drawn(lines, smoothing, log) : NOTHING),
    [visible, lines, smoothing, log],
  );
  // What hooks of the chart read when they run: always the newest.
  const latest = useRef({ props, xs });
  latest.current = { props, xs };

  const looks = [
    ...(raw === undefined ? [] : lines.map((line) => ({ line, raw: true }))),
    ...lines.map((line) => ({ line, raw: false })),
  ].map(({ line, raw }) => ({ name: line.name, look: line.look, hidden: hidden.has(line.id), raw }));
  const built = JSON.stringify([looks, axis, log, height, colours.value]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `built` stands for everything that a chart is built from
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null || !visible) return;
    let pointed = true;
    const show = (place: Place) => {
      const { place: translated } = latest.current.props;
      const x = translated?.(place) ?? (place?.axis === axis ? place.x : undefined);
      index.value = x === undefined ? -1 : nearest(latest.current.xs, x);
      const at = latest.current.xs[index.value];
      pointed = false;
      made.setCursor({ left: at === undefined ? -10 : made.valToPos(at, "x"), top: 0 });
      pointed = true;
    };
    const made = new uPlot(
      chartOptions({
        looks,
        axis,
        log,
        width: element.clientWidth || 300,
        height,
        onSelect: (selected) => latest.current.props.onZoom?.(selected),
        onReset: () => latest.current.props.onReset?.(),
        onCursor: (of) => {
          if (!pointed) return;
          index.value = (of.cursor.left ?? -1) < 0 ? -1 : (of.cursor.idx ?? -1);
          const x = latest.current.xs[index.value];
          latest.current.props.link?.move(show, x === undefined ? undefined : { axis, x });
        },
        marks: () => latest.current.props.marks ?? [],
      }),
      [[]],
      element,
    );
    chart.current = made;
    const leave = link?.join(show);
    const resize = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== made.width)
        made.setSize({ width: element.clientWidth, height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      leave?.();
      chart.current = undefined;
      made.destroy();
    };
  }, [built, visible, link]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a chart that was built anew has no data yet
  useLayoutEffect(() => {
    const made = chart.current;
    if (made === undefined) return;
    const shown = roomy(range ?? [xs[0] ?? 0, xs.at(-1) ?? 1]);
    made.batch(() => {
      made.setData([xs, ...(raw ?? []), ...columns] as uPlot.AlignedData, false);
      made.setScale("x", { min: shown[0], max: shown[1] });
    });
  }, [xs, raw, columns, range?.[0], range?.[1], built, visible, props.marks]);

  const summary = useSummary(title, axis, lines);
  const pointAt = (n: number) => {
    const made = chart.current;
    const x = xs[Math.min(Math.max(n, 0), xs.length - 1)];
    if (made !== undefined && x !== undefined) made.setCursor({ left: made.valToPos(x, "x"), top: 0 });
  };
  const zoomBy = (factor: number) => {
    const all: Range = [xs[0] ?? 0, xs.at(-1) ?? 1];
    const wanted = closer(range ?? all, xs[index.value] ?? all[1], factor, all);
    if (wanted === all) props.onReset?.();
    else props.onZoom?.(wanted);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 20, PageUp: -20 }[event.key];
    if (step !== undefined) pointAt(index.value < 0 ? xs.length - 1 : index.value + step);
    else if (event.key === "Home") pointAt(0);
    else if (event.key === "End") pointAt(xs.length - 1);
    else if (event.key === "+" || event.key === "=") zoomBy(0.5);
    else if (event.key === "-") zoomBy(2);
    else if (event.key === "Escape" && range !== undefined) props.onReset?.();
    else return;
    event.preventDefault();
  };
  // Without a cursor the newest is told. What was measured, also where a smoothed line is drawn.
  const pointed = index.value >= 0 && index.value < xs.length;
  const values = pointed
    ? legendValues(raw ?? columns, index.value)
    : lines.map((line) => cellOf(line.points.values.at(-1)));
  const ends = lines.map((line) => line.points.xs.at(-1)).filter((x) => x !== undefined);
  const at = pointed ? xs[index.value] : ends.length > 0 ? Math.max(...ends) : undefined;
  return (
    <figure class={css.chart} aria-labelledby={heading}>
      <div class={css.head}>
        <h3 id={heading}>{title}</h3>
        <span class={`${css.place} number`}>{at !== undefined && placeName(axis, at)}</span>
      </div>
      <div
        ref={box}
        class={css.plot}
        style={{ minHeight: `${height}px` }}
        role="img"
        aria-label={summary}
        // Arrow keys move the cursor, + and - look closer and from further away.
        tabIndex={0}
        onKeyDown={onKeyDown}
      />
      <Legend
        items={lines.map((line, n) => ({ ...line, value: values[n], hidden: hidden.has(line.id) }))}
        onToggle={(id) => setHidden(toggled(hidden, id))}
        marks={
          props.marks?.some((x) => range === undefined || (x >= range[0] && x <= range[1]))
            ? props.marksMean
            : undefined
        }
      />
    </figure>
  );
}

interface Drawn {
  readonly xs: number[];
  /** As measured, where `columns` are smoothed; undefined where they are not. */
  readonly raw: Cell[][] | undefined;
  readonly columns: Cell[][];
}

const NOTHING: Drawn = { xs: [], raw: undefined, columns: [] };

function drawn(lines: readonly ChartLine[], smoothing: number, log: boolean): Drawn {
  const { xs, columns } = align(lines.map((line) => line.points));
  const fitting = log ? columns.map(positive) : columns;
  if (smoothing <= 0) return { xs, raw: undefined, columns: fitting };
  return { xs, raw: fitting, columns: fitting.map((column) => smooth(column, smoothing)) };
}

const READ_OUT_MS = 500;

/** The chart in words; it follows what is drawn a little later, as nobody reads as fast as curves grow. */
function useSummary(title: string, axis: Axis, lines: readonly ChartLine[]): string {
  const [summary, setSummary] = useState(title);
  const told = useRef(0);
  useEffect(() => {
    const wait = Math.max(told.current + READ_OUT_MS - performance.now(), 50);
    const timer = setTimeout(() => {
      told.current = performance.now();
      setSummary(chartSummary(title, axis, lines));
    }, wait);
    return () => clearTimeout(timer);
  }, [title, axis, lines]);
  return summary;
}

/** Whether an element is in sight, or nearly so: what nobody sees is not drawn. */
function useVisible(element: { current: HTMLElement | null }): boolean {
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    if (element.current === null) return;
    const observer = new IntersectionObserver((entries) => setVisible(entries.some((entry) => entry.isIntersecting)), {
      rootMargin: "300px",
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return visible;
}

function toggled(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}
