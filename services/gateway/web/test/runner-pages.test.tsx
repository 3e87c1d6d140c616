import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/preact";
import { LocationProvider, Route, Router } from "preact-iso";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { RunnerStatus } from "../src/gen/protos/events/v1/runner_pb";
import {
  GetRunnerResponseSchema,
  type RegenerateSecretKeyRequest,
  RegenerateSecretKeyResponseSchema,
  RunnerSchema,
  type SuspendRunnerRequest,
} from "../src/gen/protos/scheduler/v1/runner_pb";
import { runners } from "../src/live/stores";
import Runners from "../src/pages/runners/list";
import RunnerPage from "../src/pages/runners/runner";

const api = vi.hoisted(() => ({
  getRunner: vi.fn<() => Promise<unknown>>(),
  suspendRunner: vi.fn<(request: SuspendRunnerRequest) => Promise<unknown>>(),
  regenerateSecretKey: vi.fn<(request: RegenerateSecretKeyRequest) => Promise<unknown>>(),
}));

// No layout is made here, and without one no row is in sight.
vi.mock("../src/ui/rows", () => ({
  Rows: ({ items, children }: { items: unknown[]; children: (item: unknown) => unknown }) => items.map(children),
}));
vi.mock("../src/api/session", () => ({ mayAdmin: { value: true } }));
vi.mock("../src/api/clients", () => {
  let ids = 0;
  return { call: () => ({}), newRequestId: () => `id-${++ids}`, runners: api };
});

function runner(status: RunnerStatus, more: { uninstalled?: boolean } = {}) {
  const connected = status === RunnerStatus.ONLINE;
  return create(RunnerSchema, { runnerId: "rn_1", name: "box-1", status, connected, ...more });
}

const live = (...some: ReturnType<typeof runner>[]) => {
  runners.value = new Map(some.map((one) => [one.runnerId, one]));
};
const button = (name: string) => screen.getByRole<HTMLButtonElement>("button", { name });
const choose = (name: string) => {
  fireEvent.click(button("Actions for box-1"));
  fireEvent.click(screen.getByRole("menuitem", { name }));
};

function page() {
  history.replaceState(null, "", "/runners/rn_1");
  return render(
    <LocationProvider>
      <Router>{[<Route key="runner" path="/runners/:id" component={RunnerPage} />]}</Router>
    </LocationProvider>,
  );
}

beforeEach(() => {
  vi.resetAllMocks();
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
});

it("keeps a key that is shown only once while its runner's row leaves the list", async () => {
  api.regenerateSecretKey.mockResolvedValue(create(RegenerateSecretKeyResponseSchema, { secretKey: "tk_only" }));
  live(runner(RunnerStatus.ONLINE));
  render(<Runners />);
  choose("Regenerate secret key…");
  fireEvent.click(button("Regenerate"));
  await waitFor(() => expect(screen.getByText(/tk_only/)).toBeTruthy());
  await act(() => live());
  expect(screen.queryByRole("button", { name: "Actions for box-1" })).toBeNull();
  expect(screen.getByText(/tk_only/)).toBeTruthy();
});

it("sends a repeat with the same id and the same moment, and other content with another id", async () => {
  api.suspendRunner.mockRejectedValue(new ConnectError("no healthy upstream", Code.Unavailable));
  live(runner(RunnerStatus.ONLINE));
  render(<Runners />);
  choose("Suspend…");
  const press = async (times: number) => {
    fireEvent.click(button("Suspend"));
    await waitFor(() => expect(api.suspendRunner).toHaveBeenCalledTimes(times));
    await waitFor(() => expect(button("Suspend").disabled).toBe(false));
  };
  const clock = vi.spyOn(Date, "now");
  fireEvent.change(screen.getByLabelText("How long"), { target: { value: "3600000" } });
  await press(1);
  clock.mockReturnValue(Date.now() + 5_000);
  await press(2);
  fireEvent.input(screen.getByLabelText("Reason"), { target: { value: "more memory" } });
  await press(3);
  const [first, second, third] = api.suspendRunner.mock.calls.map(([request]) => request);
  expect(second).toEqual(first);
  expect(third?.requestId).not.toBe(first?.requestId);
});

it("never shows a runner that left the list as it was before", async () => {
  api.getRunner.mockResolvedValueOnce(create(GetRunnerResponseSchema, { runner: runner(RunnerStatus.ONLINE) }));
  live(runner(RunnerStatus.ONLINE));
  page();
  await waitFor(() => expect(screen.getByText("connected now")).toBeTruthy());
  let answer: (value: unknown) => void = () => undefined;
  api.getRunner.mockReturnValueOnce(
    new Promise((resolve) => {
      answer = resolve;
    }),
  );
  await act(() => live());
  expect(screen.queryByText("connected now")).toBeNull();
  const gone = runner(RunnerStatus.OFFLINE, { uninstalled: true });
  await act(async () => answer(create(GetRunnerResponseSchema, { runner: gone })));
  await waitFor(() => expect(screen.getByText(/It was uninstalled/)).toBeTruthy());
  expect(screen.queryByRole("button", { name: "Actions for box-1" })).toBeNull();
});
