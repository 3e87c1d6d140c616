import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { jobs as api, call } from "../../api/clients";
import { isUnreachable, sentence } from "../../api/errors";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { type Filters, queryOf, requestOf } from "./list-filters";

export interface Pages {
  /** Undefined until the first page came. */
  readonly jobs: readonly Job[] | undefined;
  /** There is nothing older. */
  readonly complete: boolean;
  readonly loading: boolean;
  readonly problem: string;
  readonly more: () => void;
  readonly reload: () => void;
}

interface State {
  readonly jobs: readonly Job[] | undefined;
  readonly next: string;
  readonly loading: boolean;
  readonly problem: string;
}

const RETRY_MS = 3000;

/** Trainings that fit, a page at a time; the old ones stay on the screen until others have come. */
export function usePages(filters: Filters, subject: string): Pages {
  const [state, setState] = useState<State>({ jobs: undefined, next: "", loading: true, problem: "" });
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const abort = useRef<AbortController | undefined>(undefined);
  const key = `${queryOf(filters)} ${subject}`;
  // What a page was asked with: an answer to an earlier question is void.
  const wanted = useRef(filters);
  wanted.current = filters;

  const ask = useCallback(
    async (before: readonly Job[], token: string, signal: AbortSignal) => {
      setState((was) => ({ ...was, loading: true, problem: "" }));
      try {
        const answer = await api.listJobs(requestOf(wanted.current, subject, token), call(signal));
        if (signal.aborted) return;
        setState({ jobs: [...before, ...answer.jobs], next: answer.nextPageToken, loading: false, problem: "" });
      } catch (error) {
        if (signal.aborted) return;
        setState((was) => ({ ...was, loading: false, problem: sentence(error) }));
        if (isUnreachable(error)) setTimeout(() => signal.aborted || reload(), RETRY_MS);
      }
    },
    [subject, reload],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` is filters and subject, compared by value
  useEffect(() => {
    const giveUp = new AbortController();
    abort.current = giveUp;
    void ask([], "", giveUp.signal);
    return () => giveUp.abort();
  }, [key, round, ask]);

  const more = useCallback(() => {
    if (state.loading || state.problem || state.next === "" || abort.current === undefined) return;
    void ask(state.jobs ?? [], state.next, abort.current.signal);
  }, [state, ask]);
  return {
    jobs: state.jobs,
    complete: state.jobs !== undefined && state.next === "",
    loading: state.loading,
    problem: state.problem,
    more,
    reload,
  };
}
