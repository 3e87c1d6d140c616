import { Code } from "@connectrpc/connect";
import { act, cleanup, render } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AccessService } from "../src/gen/protos/scheduler/v1/access_pb";
import type { ToWorker } from "../src/live/protocol";
import { Gateway, Refused, settle } from "./support/gateway";

/** What the tab tells the worker that all tabs share. */
let told: ToWorker[];
let gateway: Gateway;

class Worker {
  readonly port = { onmessage: null, postMessage: (message: ToWorker) => void told.push(message) };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.resetModules();
  told = [];
  gateway = new Gateway();
  gateway.on(AccessService.method.whoAmI, () => ({ kind: "token", workspaceName: "lab" }));
  vi.stubGlobal("SharedWorker", Worker);
  sessionStorage.clear();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function page(token: string | null) {
  if (token !== null) sessionStorage.setItem("tether.token", token);
  const session = await import("../src/api/session");
  const { startStreams } = await import("../src/live/streams");
  const { App } = await import("../src/app");
  startStreams();
  const shown = render(<App />);
  if (token !== null) await act(async () => void (await session.begin(token)));
  await act(settle);
  return { ...shown, session };
}

const sessions = () => told.filter((message) => message.kind === "session").map((message) => message.token);

test("a tab that cannot reach the platform takes the session from no other tab, and comes in when it can", async () => {
  gateway.reachable = false;
  const { getByText, session } = await page("tt_1");
  expect(getByText(/does not answer/)).toBeTruthy();
  expect(sessions()).toEqual([]);
  gateway.reachable = true;
  await act(async () => void (await vi.advanceTimersByTimeAsync(5_000)));
  await act(settle);
  expect(session.who.value?.workspaceName).toBe("lab");
  expect(sessions()).toEqual(["tt_1"]);
});

test("a session is shared with the other tabs, and so is its end", async () => {
  const { session } = await page("tt_1");
  expect(sessions()).toEqual(["tt_1"]);
  await act(async () => session.end());
  await act(async () => void (await vi.advanceTimersByTimeAsync(200)));
  expect(sessions()).toEqual(["tt_1", null]);
});

test("a link whose code was used ends no other tab's session", async () => {
  gateway.on(AccessService.method.signIn, () => {
    throw new Refused(Code.Unauthenticated, "this code was used already");
  });
  const { getByText, session } = await page(null);
  await act(async () => void (await session.beginWithCode("tc_used")));
  await act(async () => void (await vi.advanceTimersByTimeAsync(200)));
  expect(getByText("This code was used already")).toBeTruthy();
  expect(sessions()).toEqual([]);
});

test("a tab without a token asks the others for one", async () => {
  await page(null);
  expect(told).toContainEqual({ kind: "ask" });
});
