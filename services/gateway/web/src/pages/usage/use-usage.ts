import { useEffect, useRef, useState } from "preact/hooks";
import { call, quota } from "../../api/clients";
import type { GetUsageResponse, UsageGrouping } from "../../gen/protos/quota/v1/quota_pb";
import { WATCHES } from "../../live/connect";
import { watch } from "../../live/streams";
import { type Asked, useAsked } from "../../ui/use";

/** What the page looks at. */
export interface View {
  /** `2026-10`; empty: the month that it is, or that it was at `atMs`. */
  readonly month: string;
  /** As it was known then; zero: as it is known now. */
  readonly atMs: number;
}

export const moment = (atMs: number) =>
  atMs > 0 ? { moment: { case: "atMs" as const, value: BigInt(atMs) } } : undefined;

/** Usage of the view: of this month live, of another month or another moment once. */
export function useUsage(view: View): Asked<GetUsageResponse> {
  const live = view.month === "" && view.atMs === 0;
  const [told, setTold] = useState<GetUsageResponse>();
  const [problem, setProblem] = useState("");
  const [round, setRound] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another round is another try
  useEffect(() => {
    if (!live) return;
    setTold(undefined);
    setProblem("");
    return watch(
      WATCHES.usage,
      {},
      {
        reset: () => setProblem(""),
        message: ({ usage }) => usage !== undefined && setTold(usage),
        failed: (failure) => setProblem(failure.retrying ? "" : failure.sentence),
      },
    );
  }, [live, round]);
  const asked = useAsked(
    async (signal) =>
      live
        ? undefined
        : { view, usage: await quota.getUsage({ period: view.month, asOf: moment(view.atMs) }, call(signal)) },
    [live, view.month, view.atMs],
  );
  if (live)
    return { value: told, problem, loading: told === undefined, reload: () => setRound((number) => number + 1) };
  const current = asked.value?.view.month === view.month && asked.value.view.atMs === view.atMs;
  return { ...asked, value: current ? asked.value?.usage : undefined };
}

interface Broken {
  readonly by: UsageGrouping;
  readonly view: View;
  readonly usage: GetUsageResponse;
}

/** The view's month broken down; asked again when `changed` does. Undefined until the first answer for this view. */
export function useBreakdown(view: View, by: UsageGrouping, changed: unknown): Asked<GetUsageResponse> {
  const { month, atMs } = view;
  const asked = useAsked<Broken>(
    async (signal) => {
      const usage = await quota.getUsage({ period: month, asOf: moment(atMs), groupBy: by }, call(signal));
      return { by, view, usage };
    },
    [month, atMs, by, changed],
  );
  const { value } = asked;
  const current = value?.by === by && value.view.month === month && value.view.atMs === atMs;
  return { ...asked, value: current ? value?.usage : undefined };
}

/** A value that changes at most so often; the last one always comes, if later. */
export function useThrottled<T>(value: T, everyMs: number): T {
  const [shown, setShown] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const show = () => {
      last.current = Date.now();
      setShown(value);
    };
    const waitMs = last.current + everyMs - Date.now();
    if (waitMs <= 0) return show();
    const timer = setTimeout(show, waitMs);
    return () => clearTimeout(timer);
  }, [value, everyMs]);
  return shown;
}
