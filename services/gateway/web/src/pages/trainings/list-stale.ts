import { useEffect, useState } from "preact/hooks";
import { jobs as api, call } from "../../api/clients";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";

// What can be in sight, about.
const MOST = 30;
const AGAIN_MS = 5000;

/**
 * Trainings of a list that were not over when it was read, and that the watch of those that are not over does not
 * have: they ended while it was interrupted, and are asked for by themselves.
 */
export function useStale(listed: readonly Job[] | undefined, live: ReadonlyMap<string, Job> | undefined) {
  const [found, setFound] = useState<ReadonlyMap<string, Job>>(new Map());
  const [round, setRound] = useState(0);
  const ids =
    live === undefined
      ? []
      : (listed ?? [])
          .filter((job) => !isOver(found.get(job.jobId) ?? job) && !live.has(job.jobId))
          .slice(0, MOST)
          .map((job) => job.jobId);
  const key = ids.join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for the ids; each round asks again
  useEffect(() => {
    if (key === "") return;
    const abort = new AbortController();
    const again = setTimeout(() => setRound((n) => n + 1), AGAIN_MS);
    void Promise.allSettled(ids.map((jobId) => api.getJob({ jobId }, call(abort.signal)))).then((answers) => {
      if (abort.signal.aborted) return;
      const jobs = answers.flatMap((one) => (one.status === "fulfilled" && one.value.job ? [one.value.job] : []));
      setFound((before) => new Map([...before, ...jobs.map((job) => [job.jobId, job] as const)]));
    });
    return () => {
      clearTimeout(again);
      abort.abort();
    };
  }, [key, round]);
  return found;
}
