import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, metrics } from "../../api/clients";
import { sentence } from "../../api/errors";
import type { StoredLogLine } from "../../gen/protos/metrics/v1/metrics_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { WATCHES } from "../../live/connect";
import { watch } from "../../live/streams";
import { LogLines, PAGE } from "./logs-lines";
import { useListed } from "./metrics-listed";

const DRAW_MS = 100;

export interface Log {
  readonly lines: readonly StoredLogLine[];
  /** Counts up with what `lines` holds. */
  readonly version: number;
  readonly loaded: boolean;
  readonly problem: string;
  /** When the lines were removed after their time; zero: they were not. */
  readonly removedAtMs: number;
  readonly loadingEarlier: boolean;
  readonly earlier: () => void;
  /** Reads them once more where that failed; undefined: it did not. */
  readonly again: (() => void) | undefined;
}

/** A training's log, live from its end on; earlier lines are read when they are wanted. */
export function useLog(job: Job, search: string): Log {
  const { jobId } = job;
  const held = useRef(new LogLines());
  const [state, setState] = useState<State>({ version: 0, loaded: false, problem: "" });
  const { listed, asked, problem: unknown } = useListed(job);
  const known = listed !== undefined;
  useEffect(() => {
    if (!known) return;
    held.current = new LogLines();
    setState((before) => ({ version: before.version + 1, loaded: false, problem: "" }));
    let fresh = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      setState((before) => ({ version: before.version + 1, loaded: true, problem: "" }));
    };
    const close = watch(
      WATCHES.logs,
      { jobId, tail: BigInt(PAGE), search },
      {
        reset: () => {
          fresh = true;
        },
        message: ({ lines }) => {
          held.current.append(lines, fresh);
          fresh = false;
          timer ??= setTimeout(draw, DRAW_MS);
        },
        failed: (failure) => {
          if (!failure.retrying) setState((before) => ({ ...before, loaded: true, problem: failure.sentence }));
        },
      },
    );
    return () => {
      clearTimeout(timer);
      close();
    };
  }, [jobId, search, known]);
  const { loadingEarlier, earlier, again, problem } = useEarlier(jobId, search, held, setState);
  return {
    lines: held.current.lines,
    version: state.version,
    loaded: state.loaded || (asked && !known),
    problem: state.problem || problem || unknown,
    removedAtMs: Number(listed?.removedAtMs ?? 0n),
    loadingEarlier,
    earlier,
    again,
  };
}

interface State {
  readonly version: number;
  readonly loaded: boolean;
  readonly problem: string;
}
type Update = (change: (before: State) => State) => void;

function useEarlier(jobId: string, search: string, held: { current: LogLines }, update: Update) {
  const [loadingEarlier, setLoading] = useState(false);
  const [problem, setProblem] = useState("");
  // It is wanted again and again while one looks at the start: not while it is read, nor by itself after it failed.
  const rests = useRef(false);
  const underWay = useRef<AbortController | undefined>(undefined);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another log, or another search, begins anew
  useEffect(() => {
    rests.current = false;
    setProblem("");
    setLoading(false);
    return () => {
      underWay.current?.abort();
      underWay.current = undefined;
    };
  }, [jobId, search]);
  const read = useCallback(async () => {
    const log = held.current;
    const first = log.lines[0]?.line ?? 1n;
    if (underWay.current || rests.current || first <= 1n) return;
    const giveUp = new AbortController();
    underWay.current = giveUp;
    setLoading(true);
    try {
      const from = first > BigInt(PAGE) ? first - BigInt(PAGE) : 1n;
      // Of lines that were searched for nobody knows where the ones before begin: the last n + 1000 are asked for.
      const request =
        search === ""
          ? { jobId, fromLine: from, maxLines: first - from }
          : { jobId, search, tail: BigInt(log.lines.length + PAGE) };
      const found: StoredLogLine[] = [];
      for await (const answer of metrics.readLogs(request, call(giveUp.signal))) found.push(...answer.lines);
      if (log !== held.current) return;
      rests.current = !log.prepend(found);
      setProblem("");
      update((before) => ({ ...before, version: before.version + 1 }));
    } catch (error) {
      if (giveUp.signal.aborted) return;
      rests.current = true;
      setProblem(sentence(error));
    } finally {
      if (underWay.current === giveUp) {
        underWay.current = undefined;
        setLoading(false);
      }
    }
  }, [jobId, search, held, update]);
  const earlier = useCallback(() => void read(), [read]);
  const retry = useCallback(() => {
    rests.current = false;
    earlier();
  }, [earlier]);
  return { loadingEarlier, earlier, again: problem === "" ? undefined : retry, problem };
}
