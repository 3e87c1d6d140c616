// What people want to see of the trainings, in the page's address so that a link shows the same. Pure.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Job, JobState, type ListJobsRequestSchema } from "../../gen/protos/scheduler/v1/job_pb";

export interface Filters {
  readonly states: readonly JobState[];
  readonly search: string;
  readonly runner: string;
  readonly architecture: string;
  readonly dataset: string;
  readonly workflow: string;
  /** Only those that the one who looks has submitted. */
  readonly mine: boolean;
}

export const NO_FILTERS: Filters = {
  states: [],
  search: "",
  runner: "",
  architecture: "",
  dataset: "",
  workflow: "",
  mine: false,
};

/** States as people go through them, with the word for the address. */
export const STATES: readonly { readonly state: JobState; readonly word: string }[] = [
  { state: JobState.QUEUED, word: "queued" },
  { state: JobState.ASSIGNED, word: "starting" },
  { state: JobState.RUNNING, word: "running" },
  { state: JobState.STOPPING, word: "stopping" },
  { state: JobState.FINISHED, word: "finished" },
  { state: JobState.FAILED, word: "failed" },
  { state: JobState.KILLED, word: "killed" },
];

/** What an address asks for; words that mean nothing are left out. */
export function parsed(query: Readonly<Record<string, string>>): Filters {
  const words = (query.state ?? "").split(",");
  return {
    states: STATES.filter(({ word }) => words.includes(word)).map(({ state }) => state),
    search: query.search ?? "",
    runner: query.runner ?? "",
    architecture: query.architecture ?? "",
    dataset: query.dataset ?? "",
    workflow: query.workflow ?? "",
    mine: query.mine === "1",
  };
}

/** The address's query for filters: `?state=running,queued&search=digits`; empty without any. */
export function queryOf(filters: Filters): string {
  const query = new URLSearchParams();
  const words = STATES.filter(({ state }) => filters.states.includes(state)).map(({ word }) => word);
  if (words.length > 0) query.set("state", words.join(","));
  for (const key of ["search", "runner", "architecture", "dataset", "workflow"] as const)
    if (filters[key]) query.set(key, filters[key]);
  if (filters.mine) query.set("mine", "1");
  const text = query.toString().replaceAll("%2C", ",");
  return text && `?${text}`;
}

export function isFiltering(filters: Filters): boolean {
  return queryOf(filters) !== "";
}

/** What the platform is asked for; `subject` is who looks: `token:<id>`. */
export function requestOf(
  filters: Filters,
  subject: string,
  pageToken: string,
): MessageInitShape<typeof ListJobsRequestSchema> {
  return {
    states: [...filters.states],
    pageSize: PAGE_SIZE,
    pageToken,
    search: filters.search.trim(),
    runnerId: filters.runner,
    architectureId: filters.architecture,
    datasetId: filters.dataset,
    workflowId: filters.workflow,
    submittedBy: filters.mine ? subject : "",
  };
}

export const PAGE_SIZE = 100;

/** Whether a job that was told of live fits, as the platform would say. */
export function fits(job: Job, filters: Filters, subject: string): boolean {
  const search = filters.search.trim().toLowerCase();
  const is = (wanted: string, found: string | undefined) => wanted === "" || wanted === found;
  return (
    (filters.states.length === 0 || filters.states.includes(job.state)) &&
    (search === "" || job.name.toLowerCase().includes(search) || job.jobId === filters.search.trim()) &&
    is(filters.runner, job.runnerId) &&
    is(filters.architecture, job.spec?.architecture?.architectureId) &&
    is(filters.dataset, job.spec?.dataset?.datasetId) &&
    is(filters.workflow, job.spec?.workflowId) &&
    (!filters.mine || job.submittedBy === subject)
  );
}

/**
 * The list that was read so far with what is known live, newest first: changed jobs as they are now, new ones on top,
 * those that do not fit any more gone. What is older than the list reaches is not shown before its page is read.
 */
export function overlaid(
  listed: readonly Job[],
  live: ReadonlyMap<string, Job>,
  complete: boolean,
  wanted: (job: Job) => boolean,
): Job[] {
  const jobs = new Map(listed.map((job) => [job.jobId, job]));
  const oldest = listed.at(-1)?.submittedAtMs ?? 0n;
  for (const job of live.values()) {
    const known = jobs.get(job.jobId);
    if (known !== undefined ? job.version >= known.version : complete || job.submittedAtMs >= oldest)
      jobs.set(job.jobId, job);
  }
  return [...jobs.values()].filter(wanted).sort((a, b) => Number(b.submittedAtMs - a.submittedAtMs));
}
