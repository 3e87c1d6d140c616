import { useEffect, useState } from "preact/hooks";
import { jobs as api, call } from "../../api/clients";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";
import { useAsked, useEvery } from "../../ui/use";

// What can be in sight, about.
const MOST = 30;
const AGAIN_MS = 5000;

/**
 * Trainings of a list that were not over when it was read, and that the watch of those that are not over does not
 * have: they ended while it was interrupted, and are asked for by themselves.
 */
export function useStale(listed: readonly Job[] | undefined, live: ReadonlyMap<string, Job> | undefined) {
  const [found, setFound] = useState<ReadonlyMap<string, Job>>(new Map());
  const ids =
    live === undefined
      ? []
      : (listed ?? [])
          .filter((job) => !isOver(found.get(job.jobId) ?? job) && !live.has(job.jobId))
          .slice(0, MOST)
          .map((job) => job.jobId);
  const key = ids.join();
  const { value, loading, reload } = useAsked(
    async (signal) => {
      const answers = await Promise.allSettled(ids.map((jobId) => api.getJob({ jobId }, call(signal))));
      return answers.flatMap((one) => (one.status === "fulfilled" && one.value.job ? [one.value.job] : []));
    },
    [key],
  );
  useEffect(() => {
    if (value === undefined || value.length === 0) return;
    setFound((before) => new Map([...before, ...value.map((job) => [job.jobId, job] as const)]));
  }, [value]);
  useEvery(key === "" ? 0 : AGAIN_MS, reload, loading);
  return found;
}
