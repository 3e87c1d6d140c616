import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { newRequestId } from "../api/clients";
import { isUnreachable, sentence } from "../api/errors";

export interface Asked<T> {
  /** The last answer; stays while it is asked again. */
  readonly value: T | undefined;
  /** Why there is none, or none that is newer; empty: nothing is wrong. */
  readonly problem: string;
  readonly loading: boolean;
  /** Asks again. */
  readonly reload: () => void;
}

interface State<T> {
  readonly value?: T;
  readonly problem: string;
  /** Nobody answered. */
  readonly lost: boolean;
  readonly loading: boolean;
}

const RETRY_MS = 3_000;

/**
 * Asks the platform when `inputs` change, and again after a while where it did not answer, while one looks. The call is
 * given up when the component goes away.
 */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, inputs: readonly unknown[]): Asked<T> {
  const [state, setState] = useState<State<T>>({ problem: "", lost: false, loading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  const reload = useCallback(() => setRound((n) => n + 1), []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what the question depends on
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest.current(abort.signal).then(
      (value) => !abort.signal.aborted && setState({ value, problem: "", lost: false, loading: false }),
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState(({ value }) => ({ value, problem: sentence(error), lost: isUnreachable(error), loading: false }));
      },
    );
    return () => abort.abort();
  }, [...inputs, round]);
  useEvery(state.lost ? RETRY_MS : 0, reload, state.loading);
  return { value: state.value, problem: state.problem, loading: state.loading, reload };
}

/**
 * Asks again each `ms` while one looks, zero: never. It rests while the last call is under way, so that a slow answer is
 * waited for, and while the page is hidden; where that left out a call, it is made as soon as the page is seen again.
 */
export function useEvery(ms: number, ask: () => void, underWay: boolean): void {
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (ms === 0 || underWay) return;
    let missed = false;
    const look = () => {
      missed = document.hidden;
      if (!missed) latest.current();
    };
    const seen = () => missed && look();
    const timer = setInterval(look, ms);
    document.addEventListener("visibilitychange", seen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [ms, underWay]);
}

/** Runs an action of a person: whether it is under way, and the sentence where it was refused. */
export function useAction(): {
  busy: boolean;
  problem: string;
  run: (action: () => Promise<unknown>) => Promise<boolean>;
  clear: () => void;
} {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const run = async (action: () => Promise<unknown>) => {
    setBusy(true);
    setProblem("");
    try {
      await action();
      return true;
    } catch (error) {
      setProblem(sentence(error));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run, clear: () => setProblem("") };
}

/** The request id of a thing that a person asks for: the same for its repeats, another once it says something else. */
export function useRequestId(content: string): string {
  const made = useRef({ content, id: newRequestId() });
  if (made.current.content !== content) made.current = { content, id: newRequestId() };
  return made.current.id;
}
