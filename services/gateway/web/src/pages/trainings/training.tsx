import { Code } from "@connectrpc/connect";
import { useCallback, useEffect, useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { jobs as api, call, metrics } from "../../api/clients";
import { hasCode } from "../../api/errors";
import { mayReadLog } from "../../api/session";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { liveJobs, newest } from "../../live/stores";
import { isOver } from "../../states";
import { ButtonLink } from "../../ui/button";
import { Empty, Loading } from "../../ui/note";
import { Tabs } from "../../ui/tabs";
import { type Asked, useAsked, useEvery } from "../../ui/use";
import { Header } from "./header";
import { later } from "./later";
import { NOTHING_SEEN, type Seen } from "./progress";
import css from "./training.module.css";

const Metrics = later(() => import("./metrics"));
const Preview = later(() => import("./preview"));
const Matrix = later(() => import("./matrix"));
const Advice = later(() => import("./advice"));
const Logs = later(() => import("./logs"));
const Checkpoints = later(() => import("./checkpoints"));
const History = later(() => import("./history"));

const TABS = [
  { id: "metrics", label: "Metrics" },
  { id: "preview", label: "Evaluation preview" },
  { id: "matrix", label: "Confusion matrix" },
  { id: "advice", label: "Recommendations" },
  { id: "logs", label: "Logs" },
  { id: "checkpoints", label: "Checkpoints" },
] as const;

const STEPS_EVERY_MS = 4000;
const END_EVERY_MS = 5000;

/** One training: what it is, how it is, and everything that it has told. */
export default function Training() {
  const { params } = useRoute();
  const { route } = useLocation();
  const id = params.id ?? "";
  const asked = useAsked((signal) => api.getJob({ jobId: id }, call(signal)), [id]);
  const told = asked.value?.job ?? liveJobs.value?.get(id);
  const job = told && told.jobId === id ? newest(told) : undefined;
  useEndNotTold(job, asked);
  const tabs = [...TABS, ...(mayReadLog.value ? [{ id: "events", label: "Events" }] : [])];
  const tab = tabs.find((one) => one.id === params.tab)?.id ?? "metrics";
  const [seen, setSeen] = useSeen(job, tab !== "metrics");
  if (job === undefined)
    return asked.problem && !asked.loading ? (
      <Empty title="This training cannot be shown" action={<ButtonLink href="/trainings">All trainings</ButtonLink>}>
        {asked.problem}
      </Empty>
    ) : (
      <Loading lines={8} what="Loading the training" />
    );
  return (
    // Another training is another page: nothing of the last one stays.
    <div key={id} class={css.page}>
      <Header job={job} seen={seen} />
      <div class={css.tabs}>
        <Tabs
          label="Parts of the training"
          tabs={tabs}
          chosen={tab}
          onChoose={(next) => route(`/trainings/${id}/${next}`, true)}
        >
          {tab === "metrics" && <Metrics job={job} onSeen={setSeen} />}
          {tab === "preview" && <Preview job={job} />}
          {tab === "matrix" && <Matrix job={job} />}
          {tab === "advice" && <Advice job={job} />}
          {tab === "logs" && <Logs job={job} />}
          {tab === "checkpoints" && <Checkpoints job={job} />}
          {tab === "events" && <History job={job} />}
        </Tabs>
      </div>
    </div>
  );
}

/** Asks again where the watch has no word of a training that is not over: it ended while the watch was interrupted. */
function useEndNotTold(job: Job | undefined, { reload, loading }: Asked<unknown>): void {
  const missing = job !== undefined && !isOver(job) && liveJobs.value !== undefined && !liveJobs.value.has(job.jobId);
  useEffect(() => {
    if (missing) reload();
  }, [missing, reload]);
  useEvery(missing ? END_EVERY_MS : 0, reload, loading);
}

/** How far it is: as the metrics tell while they are shown, else asked now and then while it runs. */
function useSeen(job: Job | undefined, ask: boolean): [Seen, (seen: Seen) => void] {
  const jobId = job?.jobId ?? "";
  const [{ of, seen }, setTold] = useState({ of: jobId, seen: NOTHING_SEEN });
  const asks = ask && jobId !== "";
  const runs = job?.state === JobState.RUNNING;
  // Where it fails the bar stays where it is; what is wrong with the platform is said at the top of the page.
  const { value, reload, loading } = useAsked(
    async (signal) => (asks ? { of: jobId, seen: await seenBy(jobId, signal) } : undefined),
    [asks, jobId, runs],
  );
  useEffect(() => {
    if (value !== undefined) setTold(value);
  }, [value]);
  useEvery(asks && runs ? STEPS_EVERY_MS : 0, reload, loading);
  const tell = useCallback(
    (next: Seen) =>
      setTold((last) =>
        last.of === jobId && last.seen.step === next.step && last.seen.firstEvaluation === next.firstEvaluation
          ? last
          : { of: jobId, seen: next },
      ),
    [jobId],
  );
  // What was seen of another training says nothing of this one.
  return [of === jobId ? seen : NOTHING_SEEN, tell];
}

async function seenBy(jobId: string, signal: AbortSignal): Promise<Seen> {
  try {
    const { series } = await metrics.listSeries({ jobId }, call(signal));
    const of = (name: string) => series.find((one) => one.name === name);
    return {
      step: Number(of("train/loss")?.lastStep ?? 0n),
      firstEvaluation: Number(of("validation/loss")?.firstStep ?? 0n),
    };
  } catch (error) {
    if (hasCode(error, Code.NotFound)) return NOTHING_SEEN;
    throw error;
  }
}
