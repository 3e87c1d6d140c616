import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type Job, JobSchema, JobState } from "../src/gen/protos/scheduler/v1/job_pb";
import { type Filters, fits, NO_FILTERS, overlaid, parsed, queryOf } from "../src/pages/trainings/list-filters";

type Some = Omit<MessageInitShape<typeof JobSchema>, "$typeName" | "$unknown">;

const ME = "token:tk_me";
const job = (id: string, at: number, more: Some = {}): Job =>
  create(JobSchema, {
    jobId: id,
    name: `digits ${id}`,
    state: JobState.RUNNING,
    submittedAtMs: BigInt(at),
    version: 1n,
    submittedBy: ME,
    ...more,
  });
const all = () => true;
const live = (...jobs: Job[]) => new Map(jobs.map((one) => [one.jobId, one]));
const ids = (jobs: readonly Job[]) => jobs.map((one) => one.jobId);

describe("filters in the address", () => {
  const filters: Filters = {
    states: [JobState.QUEUED, JobState.KILLED],
    search: "a & b=c",
    runner: "rn_1",
    architecture: "resnet-tiny",
    dataset: "ds_1",
    workflow: "wf_1",
    mine: true,
  };
  test("what is written there is read back", () => {
    const query = Object.fromEntries(new URLSearchParams(queryOf(filters)));
    expect(parsed(query)).toEqual(filters);
  });
  test("nothing is written without filters, and nonsense is none", () => {
    expect(queryOf(NO_FILTERS)).toBe("");
    expect(parsed({ state: "happy,__proto__", mine: "yes", jobs: "x" })).toEqual(NO_FILTERS);
  });
});

describe("what fits", () => {
  const one = job("jb_1", 1, { runnerId: "rn_1" });
  test.each<[string, Partial<Filters>, boolean]>([
    ["nothing asked", {}, true],
    ["its state", { states: [JobState.RUNNING] }, true],
    ["another state", { states: [JobState.FAILED] }, false],
    ["part of its name", { search: "DIGITS" }, true],
    ["its id", { search: "jb_1" }, true],
    ["another text", { search: "masks" }, false],
    ["another runner", { runner: "rn_2" }, false],
    ["an architecture that it has not", { architecture: "x" }, false],
    ["mine", { mine: true }, true],
  ])("%s", (_, asked, expected) => expect(fits(one, { ...NO_FILTERS, ...asked }, ME)).toBe(expected));
  test("what others submitted is not mine", () => {
    expect(fits(job("jb_2", 1, { submittedBy: "token:other" }), { ...NO_FILTERS, mine: true }, ME)).toBe(false);
  });
});

describe("the list with what is known live", () => {
  test("new trainings appear on top by themselves", () => {
    expect(ids(overlaid([job("b", 2), job("a", 1)], live(job("c", 3)), false, all))).toEqual(["c", "b", "a"]);
  });
  test("a newer version replaces, an older one does not", () => {
    const [first] = overlaid(
      [job("a", 1, { version: 5n })],
      live(job("a", 1, { version: 6n, name: "new" })),
      true,
      all,
    );
    expect(first?.name).toBe("new");
    const [second] = overlaid(
      [job("a", 1, { version: 5n })],
      live(job("a", 1, { version: 4n, name: "old" })),
      true,
      all,
    );
    expect(second?.name).toBe("digits a");
  });
  test("what does not fit any more is gone", () => {
    const over = job("a", 1, { version: 2n, state: JobState.FINISHED });
    const runs = (one: Job) => one.state === JobState.RUNNING;
    expect(overlaid([job("a", 1)], live(over), true, runs)).toEqual([]);
  });
  test("what is older than the list reaches waits for its page", () => {
    const old = live(job("old", 1));
    expect(ids(overlaid([job("b", 5)], old, false, all))).toEqual(["b"]);
    expect(ids(overlaid([job("b", 5)], old, true, all))).toEqual(["b", "old"]);
  });
});
