import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, quota } from "../../api/clients";
import { isUnreachable, sentence } from "../../api/errors";
import type { Charge } from "../../gen/protos/quota/v1/quota_pb";
import { merged } from "./charge-list";

export interface Charges {
  /** Newest first; undefined until the first answer. */
  readonly charges: readonly Charge[] | undefined;
  readonly problem: string;
  /** Asks for the next page, if there is one. */
  readonly more: () => void;
  readonly reload: () => void;
}

const PAGE = 100;
const RETRY_MS = 3_000;

/** Charges of a month, a page at a time; the newest are asked for again when `changed` does. */
export function useCharges(period: string, changed: unknown): Charges {
  const [charges, setCharges] = useState<readonly Charge[]>();
  const [problem, setProblem] = useState("");
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((number) => number + 1), []);
  const next = useRef("");
  const busy = useRef<AbortController>(undefined);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another month is another list
  useEffect(() => {
    setCharges(undefined);
    next.current = "";
    return () => busy.current?.abort();
  }, [period]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `changed` and the round say when to ask again
  useEffect(() => {
    const abort = new AbortController();
    let retry: ReturnType<typeof setTimeout> | undefined;
    setProblem("");
    quota.listCharges({ period, pageSize: PAGE }, call(abort.signal)).then(
      (page) => {
        if (abort.signal.aborted) return;
        setCharges((known = []) => {
          const joins = page.charges.some((charge) => known.some((one) => one.jobId === charge.jobId));
          // Nothing in common: the list begins anew here, or there would be a hole in it.
          if (!joins) next.current = page.nextPageToken;
          return joins ? merged(known, page.charges, "newest") : page.charges;
        });
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
    };
  }, [period, changed, round]);

  const more = useCallback(() => {
    if (next.current === "" || busy.current?.signal.aborted === false) return;
    const abort = new AbortController();
    busy.current = abort;
    quota
      .listCharges({ period, pageSize: PAGE, pageToken: next.current }, call(abort.signal))
      .then(
        (page) => {
          if (abort.signal.aborted) return;
          next.current = page.nextPageToken;
          setCharges((known) => merged(known ?? [], page.charges, "older"));
        },
        (error: unknown) => abort.signal.aborted || setProblem(sentence(error)),
      )
      .finally(() => {
        if (busy.current === abort) busy.current = undefined;
      });
  }, [period]);

  return { charges, problem, more, reload };
}
