// @vitest-environment happy-dom
import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { JobService } from "../src/gen/protos/scheduler/v1/job_pb";
import { RunnerService, WatchRunnersRequestSchema } from "../src/gen/protos/scheduler/v1/runner_pb";
import { nameOf } from "../src/live/connect";
import { Office } from "../src/live/office";
import type { ToTab } from "../src/live/protocol";
import { Gateway, settle } from "./support/gateway";

const RUNNERS = RunnerService.method.watchRunners;
const JOBS = JobService.method.watchJobs;

/** One tab, as the worker sees it. */
class Tab {
  readonly told: ToTab[] = [];
  readonly postMessage = (message: ToTab) => void this.told.push(message);

  constructor(readonly office: Office) {
    office.enter(this);
  }

  open(id: number, method: typeof RUNNERS | typeof JOBS = RUNNERS): void {
    const request = toBinary(WatchRunnersRequestSchema, create(WatchRunnersRequestSchema));
    this.office.hear(this, { kind: "open", id, wanted: { method: nameOf(method), request } });
  }

  close(id: number): void {
    this.office.hear(this, { kind: "close", id });
  }

  session(token: string | null): void {
    this.office.hear(this, { kind: "session", token });
  }

  kinds(): string[] {
    return this.told.map((message) => message.kind);
  }
}

let gateway: Gateway;
let office: Office;
let tab: Tab;
let other: Tab;
/** Locks that tabs hold; a tab that crashes lets its go. */
let crash: Map<string, () => void>;

beforeEach(() => {
  vi.useFakeTimers();
  gateway = new Gateway();
  crash = new Map();
  const request = (name: string, granted: () => void) => {
    crash.set(name, granted);
    return Promise.resolve();
  };
  vi.stubGlobal("navigator", { locks: { request } });
  office = new Office();
  tab = new Tab(office);
  other = new Tab(office);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("streams", () => {
  test("two tabs that watch the same share one stream, which ends with the last of them", async () => {
    tab.session("tt_1");
    tab.open(1);
    other.open(7);
    await settle();
    await gateway.say(RUNNERS, { runners: [{ name: "box-1" }] });
    expect(gateway.open(RUNNERS)).toEqual(["tt_1"]);
    expect(tab.told.filter((message) => message.kind === "message")).toMatchObject([{ id: 1 }]);
    expect(other.told.filter((message) => message.kind === "message")).toMatchObject([{ id: 7 }]);
    tab.close(1);
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(1);
    other.close(7);
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(0);
  });

  test("the same id opened twice is one stream, and closing it once closes it", async () => {
    tab.session("tt_1");
    tab.open(1);
    tab.open(1);
    await settle();
    tab.close(1);
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(0);
  });

  test("a refusal reaches the tab with the platform's sentence", async () => {
    tab.session("tt_1");
    tab.open(1);
    await settle();
    await gateway.end(RUNNERS, { code: Code.Unauthenticated, message: "this token was revoked" });
    expect(tab.told).toContainEqual({
      kind: "failed",
      id: 1,
      failure: { sentence: "This token was revoked", retrying: false, signedOut: true },
    });
    expect(other.kinds()).not.toContain("failed");
  });
});

describe("sessions", () => {
  test("one tab's session is told to those that are there and to those that ask later, not to itself", () => {
    tab.session("tt_1");
    expect(other.told).toEqual([{ kind: "session", token: "tt_1" }]);
    expect(tab.told).toEqual([]);
    const late = new Tab(office);
    office.hear(late, { kind: "ask" });
    expect(late.told).toEqual([{ kind: "session", token: "tt_1" }]);
  });

  test("who asks before anybody has a session is told nothing", () => {
    office.hear(other, { kind: "ask" });
    expect(other.told).toEqual([]);
  });

  test("another token begins every stream anew with it", async () => {
    tab.session("tt_1");
    tab.open(1);
    await settle();
    tab.session("tt_2");
    await settle();
    expect(gateway.open(RUNNERS)).toEqual(["tt_2"]);
  });

  test("after signing out nothing is asked, and nobody hears of a refusal", async () => {
    tab.session("tt_1");
    tab.open(1);
    other.open(1);
    other.open(2, JOBS);
    await settle();
    const asked = gateway.asked.length;
    tab.session(null);
    await settle();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(gateway.asked).toHaveLength(asked);
    expect(other.told.at(-1)).toEqual({ kind: "session", token: null });
    expect([...tab.kinds(), ...other.kinds()]).not.toContain("failed");
  });
});

describe("tabs that go", () => {
  test("a tab that says goodbye leaves its streams, and what it still says is not heard", async () => {
    tab.session("tt_1");
    tab.open(1);
    await settle();
    office.hear(tab, { kind: "bye" });
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(0);
    tab.open(2);
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(0);
  });

  test("a tab that crashes lets its lock go, and its streams with it; the others keep theirs", async () => {
    tab.session("tt_1");
    office.hear(tab, { kind: "lives", lock: "tab" });
    office.hear(other, { kind: "lives", lock: "other" });
    tab.open(1);
    other.open(1, JOBS);
    await settle();
    crash.get("tab")?.();
    await settle();
    expect(gateway.open(RUNNERS)).toHaveLength(0);
    expect(gateway.open(JOBS)).toHaveLength(1);
    const said = tab.told.length;
    other.session("tt_2");
    expect(tab.told).toHaveLength(said);
  });
});

test("a platform that is lost and found is told to every tab", async () => {
  tab.session("tt_1");
  tab.open(1);
  await settle();
  await gateway.end(RUNNERS, { code: Code.Unavailable, message: "no healthy upstream" });
  await vi.advanceTimersByTimeAsync(1_000);
  await settle();
  await gateway.say(RUNNERS, { runners: [] });
  for (const one of [tab, other])
    expect(one.told.filter((message) => message.kind === "link")).toEqual([
      { kind: "link", up: false },
      { kind: "link", up: true },
    ]);
});
