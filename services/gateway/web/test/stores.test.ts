// @vitest-environment happy-dom
import { Code } from "@connectrpc/connect";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import * as session from "../src/api/session";
import { AccessService } from "../src/gen/protos/scheduler/v1/access_pb";
import { JobService, JobState } from "../src/gen/protos/scheduler/v1/job_pb";
import { RunnerService } from "../src/gen/protos/scheduler/v1/runner_pb";
import * as stores from "../src/live/stores";
import { shareSession, startStreams } from "../src/live/streams";
import { Gateway, settle } from "./support/gateway";

const RUNNERS = RunnerService.method.watchRunners;
const JOBS = JobService.method.watchJobs;

let gateway: Gateway;
let stop: () => void;

beforeAll(startStreams);
beforeEach(async () => {
  vi.useFakeTimers();
  gateway = new Gateway();
  gateway.on(AccessService.method.whoAmI, () => ({ kind: "token" }));
  await session.begin("tt_1");
  shareSession("tt_1");
  stop = stores.startStores();
  await settle();
});
afterEach(async () => {
  stop();
  session.end();
  shareSession(null);
  await settle();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("runners are unknown until the first answer, which may be that there is none", async () => {
  expect(stores.runners.value).toBeUndefined();
  await gateway.say(RUNNERS, { runners: [] });
  expect(stores.runners.value?.size).toBe(0);
});

test("a keep-alive changes nothing; a change replaces its runner only", async () => {
  await gateway.say(RUNNERS, {
    runners: [
      { runnerId: "a", name: "box-10" },
      { runnerId: "b", name: "box-2" },
    ],
  });
  const before = stores.runners.value;
  await gateway.say(RUNNERS, { runners: [] });
  expect(stores.runners.value).toBe(before);
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a", name: "box-1" }] });
  expect(stores.runnersByName.value.map((runner) => runner.name)).toEqual(["box-1", "box-2"]);
});

test("a runner that is uninstalled leaves", async () => {
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a" }, { runnerId: "b" }] });
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a", uninstalled: true }] });
  expect([...(stores.runners.value?.keys() ?? [])]).toEqual(["b"]);
});

test("after a reset the first message replaces everything; until then the old stays on the screen", async () => {
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a" }, { runnerId: "b" }] });
  await gateway.end(RUNNERS, { code: Code.Unavailable, message: "restarting" });
  expect(stores.runners.value?.size).toBe(2);
  await vi.advanceTimersByTimeAsync(2_000);
  await settle();
  await gateway.say(RUNNERS, { runners: [{ runnerId: "c" }] });
  expect([...(stores.runners.value?.keys() ?? [])]).toEqual(["c"]);
});

test("a workspace whose last runner went while the link was lost is empty afterwards", async () => {
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a" }] });
  await gateway.end(RUNNERS);
  await vi.advanceTimersByTimeAsync(2_000);
  await settle();
  await gateway.say(RUNNERS, { runners: [] });
  expect(stores.runners.value?.size).toBe(0);
});

test("the newest that is known of a job is the one of the higher version, from wherever it came", async () => {
  await gateway.say(JOBS, { jobs: [{ jobId: "j", version: 5n, state: JobState.RUNNING }] });
  const live = stores.liveJobs.value?.get("j");
  if (live === undefined) throw new Error("the job is not known");
  expect(stores.newest({ ...live, version: 4n, state: JobState.ASSIGNED }).state).toBe(JobState.RUNNING);
  expect(stores.newest({ ...live, version: 6n, state: JobState.FINISHED }).state).toBe(JobState.FINISHED);
  const another = { ...live, jobId: "k" };
  expect(stores.newest(another)).toBe(another);
});

test("stopping forgets everything and closes the streams", async () => {
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a" }] });
  stop();
  await settle();
  expect(stores.runners.value).toBeUndefined();
  expect(stores.liveJobs.value).toBeUndefined();
  expect([...gateway.open(RUNNERS), ...gateway.open(JOBS)]).toEqual([]);
});

test("a stream that finds the token revoked ends the session", async () => {
  await gateway.end(RUNNERS, { code: Code.Unauthenticated, message: "this token was revoked" });
  expect(session.who.value).toBeNull();
  expect(session.signInProblem.value).toBe("This token was revoked");
});

test("a hidden tab watches nothing, and is told everything when it is seen again", async () => {
  await gateway.say(RUNNERS, { runners: [{ runnerId: "a" }, { runnerId: "b" }] });
  const hide = async (hidden: boolean) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
    await settle();
  };
  await hide(true);
  expect(gateway.open(RUNNERS)).toEqual([]);
  await hide(false);
  expect(gateway.open(RUNNERS)).toHaveLength(1);
  await gateway.say(RUNNERS, { runners: [{ runnerId: "b" }] });
  expect([...(stores.runners.value?.keys() ?? [])]).toEqual(["b"]);
});
