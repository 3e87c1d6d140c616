import { computed, signal } from "@preact/signals";
import type { Job } from "../gen/protos/scheduler/v1/job_pb";
import type { Runner } from "../gen/protos/scheduler/v1/runner_pb";
import { WATCHES } from "./connect";
import { watch } from "./streams";

// What every page needs is watched once for all of them: runners, and jobs that are not over.

/** All runners by id; undefined until they are known. */
export const runners = signal<ReadonlyMap<string, Runner> | undefined>(undefined);
/** Jobs that are not over, and those that ended while this page looked on; undefined until they are known. */
export const liveJobs = signal<ReadonlyMap<string, Job> | undefined>(undefined);

// Made once: a comparison that makes its own takes tens of times as long, and a thousand runners are compared often.
const collator = new Intl.Collator(undefined, { numeric: true });

export const runnersByName = computed(() =>
  [...(runners.value?.values() ?? [])].sort((a, b) => collator.compare(a.name, b.name)),
);

/** Begins to watch; to be called when a session begins. The function that it returns forgets everything. */
export function startStores(): () => void {
  const closers = [
    watch(
      WATCHES.runners,
      {},
      keep(
        runners,
        (response) => response.runners,
        (runner) => runner.runnerId,
        (runner) => runner.uninstalled,
      ),
    ),
    watch(
      WATCHES.jobs,
      {},
      keep(
        liveJobs,
        (response) => response.jobs,
        (job) => job.jobId,
      ),
    ),
  ];
  return () => {
    for (const close of closers) close();
    runners.value = undefined;
    liveJobs.value = undefined;
  };
}

/** The newest that this page knows of a job: the one given, or what was told of it since. */
export function newest(job: Job): Job {
  const live = liveJobs.value?.get(job.jobId);
  return live !== undefined && live.version >= job.version ? live : job;
}

function keep<T, Response>(
  store: { value: ReadonlyMap<string, T> | undefined },
  items: (response: Response) => T[],
  id: (item: T) => string,
  gone: (item: T) => boolean = () => false,
) {
  // The first message after a reset replaces what there is; until then the old stays on the screen.
  let replace = true;
  return {
    reset: () => {
      replace = true;
    },
    message: (response: Response) => {
      const found = items(response);
      if (found.length === 0 && !replace) return;
      const all = new Map(replace ? [] : store.value);
      for (const item of found) gone(item) ? all.delete(id(item)) : all.set(id(item), item);
      replace = false;
      store.value = all;
    },
  };
}
