import { useEffect, useRef, useState } from "preact/hooks";
import { call, metrics } from "../../api/clients";
import { sentence } from "../../api/errors";
import type { ListSeriesResponse } from "../../gen/protos/metrics/v1/metrics_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { WATCHES } from "../../live/connect";
import { watch } from "../../live/streams";
import type { Axis, Range } from "./chart-data";
import { stepRange } from "./chart-data";
import { type Curve, Curves, curveOf } from "./curves";
import { useListed } from "./metrics-listed";

// Points of all series together that a page begins with, and of one of them.
const FIRST_POINTS = 60_000;
const MOST_A_SERIES = 1000;
const FEWEST_A_SERIES = 8;
/** Pauses between drawings: new points are seen well within a second, and many at once cost one drawing. */
const DRAW_MS = 120;

export interface Live {
  readonly curves: Curves;
  /** Counts up with what `curves` holds. */
  readonly version: number;
  /** Undefined until the platform knows of series. */
  readonly listed: ListSeriesResponse | undefined;
  /** Whether everything that is stored has come. */
  readonly loaded: boolean;
  readonly problem: string;
  /** Why nothing new comes at the moment, where something is wrong; what there is stays. */
  readonly interrupted: string;
}

/** A training's series, which grow while it runs. */
export function useLive(job: Job): Live {
  const { jobId } = job;
  const { listed, problem, asked } = useListed(job);
  const curves = useRef(new Curves());
  const [state, setState] = useState({ version: 0, loaded: false, problem: "", interrupted: "" });
  const [round, setRound] = useState(0);
  const known = listed !== undefined;
  const maxPoints = Math.min(
    Math.max(Math.floor(FIRST_POINTS / Math.max(listed?.series.length ?? 1, 1)), FEWEST_A_SERIES),
    MOST_A_SERIES,
  );
  const points = useRef(maxPoints);
  points.current = maxPoints;
  // biome-ignore lint/correctness/useExhaustiveDependencies: each round asks for everything anew, reduced
  useEffect(() => {
    if (!known) return;
    let fresh = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      setState((before) => ({ version: before.version + 1, loaded: true, problem: "", interrupted: "" }));
      if (curves.current.tooLong) setRound((n) => n + 1);
    };
    const close = watch(
      WATCHES.metrics,
      { jobId, maxPoints: points.current },
      {
        reset: () => {
          fresh = true;
        },
        message: ({ series }) => {
          curves.current.take(series, fresh);
          fresh = false;
          timer ??= setTimeout(draw, DRAW_MS);
        },
        failed: (failure) => {
          const at = failure.retrying ? "interrupted" : "problem";
          setState((before) => ({ ...before, [at]: failure.sentence }));
        },
      },
    );
    return () => {
      clearTimeout(timer);
      close();
    };
  }, [jobId, known, round]);
  return {
    curves: curves.current,
    version: state.version,
    listed,
    loaded: state.loaded || (asked && !known),
    problem: state.problem || problem,
    interrupted: state.interrupted,
  };
}

/** A part of the x axis that people look at. */
export interface Zoom {
  readonly axis: Axis;
  readonly range: Range;
}

export interface Detail {
  readonly curves: ReadonlyMap<string, Curve>;
  readonly loading: boolean;
  readonly problem: string;
}

const NOTHING: Detail = { curves: new Map(), loading: false, problem: "" };
const SETTLE_MS = 150;

/** The points of a range in as much detail as a screen can show, asked of the platform. */
export function useDetail(jobId: string, live: Curves, zoom: Zoom | undefined, timeRange: Range | undefined): Detail {
  const [detail, setDetail] = useState<Detail>(NOTHING);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a range is asked for once, however the curves grow
  useEffect(() => {
    if (zoom === undefined) {
      setDetail(NOTHING);
      return;
    }
    const abort = new AbortController();
    setDetail((before) => ({ ...before, loading: true }));
    const timer = setTimeout(async () => {
      try {
        const found = await Promise.all(questions(live, zoom, timeRange).map((one) => ask(jobId, one, abort.signal)));
        setDetail({ curves: new Map(found.flat()), loading: false, problem: "" });
      } catch (error) {
        if (!abort.signal.aborted) setDetail((before) => ({ ...before, loading: false, problem: sentence(error) }));
      }
    }, SETTLE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [jobId, zoom]);
  return detail;
}

interface Question {
  readonly names: string[];
  readonly steps: Range;
}

/** What to ask for: the series of the training have steps in common, those of the box have a clock. */
function questions(live: Curves, zoom: Zoom, timeRange: Range | undefined): Question[] {
  const began = live.beganMs;
  const found: Question[] = [];
  const reference = live.reference;
  const training = live.names(false);
  const steps = reference && stepRange(zoom.axis, reference, began, zoom.range);
  if (steps && training.length > 0) found.push({ names: training, steps });
  const box = live.names(true);
  const clock = live.all.get(box[0] ?? "");
  const boxSteps = clock && timeRange && stepRange("time", clock, began, timeRange);
  if (boxSteps) found.push({ names: box, steps: boxSteps });
  return found;
}

async function ask(jobId: string, { names, steps }: Question, signal: AbortSignal): Promise<[string, Curve][]> {
  // Two points a pixel: the lowest and the highest.
  const most = Math.min(Math.max(window.innerWidth * 2, 200), 4000);
  const answer = await metrics.queryMetrics(
    // Both zero would mean everything.
    { jobId, names, fromStep: BigInt(steps[0]), toStep: BigInt(Math.max(steps[1], steps[0], 1)), maxPoints: most },
    call(signal),
  );
  return answer.series.map((series) => [series.name, curveOf(series)]);
}
