import type { MessageInitShape } from "@bufbuild/protobuf";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, eventLog } from "../../api/clients";
import { isUnreachable, sentence } from "../../api/errors";
import type { EventFilterSchema, EventRecord } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { WATCHES } from "../../live/connect";
import { watch } from "../../live/streams";
import { extended, joined, MOST } from "./feed";

export type Filter = MessageInitShape<typeof EventFilterSchema>;

/** Which part of the log: up to a moment, around a position, or, without both, up to now and on. */
export interface Place {
  /** Unix milliseconds; zero: no moment. */
  readonly untilMs: number;
  /** Zero: no position. */
  readonly around: bigint;
}

export interface Feed {
  /** Newest first; undefined until the first answer. */
  readonly events: readonly EventRecord[] | undefined;
  readonly problem: string;
  /** Came while the reader looks at a still picture. */
  readonly waiting: number;
  /** There is nothing older. */
  readonly complete: boolean;
  /** There may be older ones, but so many are held already that no more are asked for. */
  readonly full: boolean;
  readonly older: () => void;
  readonly reload: () => void;
}

/** The newest, and on. */
export const NEWEST: Place = { untilMs: 0, around: 0n };

const PAGE = 200;
const RETRY_MS = 3_000;

/**
 * The newest events of a place that fit, and where it is up to now each new one as it happens; older ones when asked
 * for. `paused` holds new ones back.
 */
export function useFeed(filter: Filter, place: Place, paused: boolean): Feed {
  const [events, setEvents] = useState<readonly EventRecord[]>();
  const [problem, setProblem] = useState("");
  const [held, setHeld] = useState<readonly EventRecord[]>([]);
  const [complete, setComplete] = useState(false);
  const [round, setRound] = useState(0);
  const still = useRef(paused);
  const asking = useRef<AbortController>(undefined);
  const busy = useRef(false);
  still.current = paused;
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const question = JSON.stringify([filter, place.untilMs, String(place.around), round]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `question` is filter, place and round, compared by value
  useEffect(() => {
    const abort = new AbortController();
    asking.current = abort;
    busy.current = false;
    let close = () => {};
    let retry: ReturnType<typeof setTimeout> | undefined;
    setEvents(undefined);
    setProblem("");
    setHeld([]);
    setComplete(false);
    read(filter, rangeOf(place), abort.signal).then(
      ({ events: found, head }) => {
        if (abort.signal.aborted) return;
        setEvents(joined([], found));
        setComplete(found.length < PAGE);
        if (isPast(place)) return;
        close = watch(
          WATCHES.events,
          { fromPosition: head + 1n, filter, withSentences: true },
          {
            // From the same position again: what is known already is not taken twice.
            reset: () => setProblem(""),
            message: ({ events: came }) => {
              if (came.length === 0) return;
              if (still.current) setHeld((all) => joined(all, came));
              else setEvents((all) => joined(all ?? [], came));
            },
            failed: (failure) => setProblem(failure.retrying ? "" : failure.sentence),
          },
        );
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setProblem(sentence(error));
        if (isUnreachable(error)) retry = setTimeout(reload, RETRY_MS);
      },
    );
    return () => {
      clearTimeout(retry);
      abort.abort();
      close();
    };
  }, [question]);

  useEffect(() => {
    if (paused || held.length === 0) return;
    setEvents((all) => joined(all ?? [], held));
    setHeld([]);
  }, [paused, held]);

  const oldest = events?.at(-1)?.position ?? 0n;
  const full = (events?.length ?? 0) >= MOST;
  const older = useCallback(() => {
    const abort = asking.current;
    if (busy.current || complete || full || abort === undefined || oldest <= 1n) return;
    busy.current = true;
    read(filter, { newest: PAGE, toPosition: oldest - 1n }, abort.signal)
      .then(({ events: found }) => {
        if (abort.signal.aborted) return;
        setEvents((all) => extended(all ?? [], found));
        setComplete(found.length < PAGE);
      })
      .catch((error: unknown) => abort.signal.aborted || setProblem(sentence(error)))
      .finally(() => {
        if (asking.current === abort) busy.current = false;
      });
  }, [filter, complete, full, oldest]);

  return { events, problem, waiting: held.length, complete, full, older, reload };
}

/** Nothing new comes at a place in the past. */
export function isPast(place: Place): boolean {
  return place.untilMs > 0 || place.around > 0n;
}

function rangeOf({ untilMs, around }: Place): Range {
  // As many after the position as before it, so that it stands in the middle.
  if (around > 0n) return { newest: PAGE, toPosition: around + BigInt(PAGE / 2) };
  return { newest: PAGE, toMs: BigInt(untilMs) };
}

interface Range {
  readonly newest: number;
  readonly toMs?: bigint;
  readonly toPosition?: bigint;
}

async function read(
  filter: Filter,
  range: Range,
  signal: AbortSignal,
): Promise<{ events: EventRecord[]; head: bigint }> {
  const events: EventRecord[] = [];
  let head = 0n;
  for await (const page of eventLog.readEvents({ filter, withSentences: true, ...range }, call(signal))) {
    events.push(...page.events);
    if (page.scannedPosition > head) head = page.scannedPosition;
  }
  return { events, head };
}
