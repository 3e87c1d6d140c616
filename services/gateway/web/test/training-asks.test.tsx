// What pages of trainings ask for by themselves, and when they stop.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { act, cleanup, render, renderHook, screen } from "@testing-library/preact";
import { LocationProvider } from "preact-iso";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { jobs, metrics } from "../src/api/clients";
import { UNREACHABLE } from "../src/api/errors";
import {
  ListSeriesResponseSchema,
  StoredLogLineSchema,
  WatchLogsResponseSchema,
} from "../src/gen/protos/metrics/v1/metrics_pb";
import { JobSchema, JobState, ListJobsResponseSchema } from "../src/gen/protos/scheduler/v1/job_pb";
import type { Watcher } from "../src/live/streams";
import Compare from "../src/pages/trainings/compare";
import Trainings from "../src/pages/trainings/list";
import { useLog } from "../src/pages/trainings/logs-live";

const watchers: Watcher<unknown>[] = [];
vi.mock("../src/live/streams", async (original) => ({
  ...(await original<object>()),
  watch: (_: unknown, __: unknown, watcher: Watcher<unknown>) => {
    watchers.push(watcher);
    return () => undefined;
  },
}));

const LOST = new ConnectError("no healthy upstream", Code.Unavailable);
const pass = (ms: number) => act(async () => void (await vi.advanceTimersByTimeAsync(ms)));

function open(path: string, page: typeof Compare): void {
  history.replaceState(null, "", path);
  const Page = page;
  render(
    <LocationProvider>
      <Page />
    </LocationProvider>,
  );
}

beforeEach(() => {
  vi.useFakeTimers();
  // Whatever else the pages ask for has no answer here.
  vi.stubGlobal("fetch", () => new Promise(() => undefined));
  watchers.length = 0;
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("earlier lines that could not be read are read again where a person asks for it, not by themselves", async () => {
  vi.spyOn(metrics, "listSeries").mockResolvedValue(create(ListSeriesResponseSchema));
  const read = vi.spyOn(metrics, "readLogs").mockImplementation(() => {
    throw LOST;
  });
  const { result } = renderHook(() => useLog(create(JobSchema, { jobId: "jb_1", state: JobState.RUNNING }), ""));
  await pass(10);
  const lines = [5001n, 5002n].map((line) => create(StoredLogLineSchema, { line, text: "x" }));
  act(() => watchers[0]?.message(create(WatchLogsResponseSchema, { lines })));
  await pass(200);
  const { earlier } = result.current;
  await act(async () => earlier());
  expect(result.current.problem).toBe(UNREACHABLE);
  expect(result.current.earlier).toBe(earlier);
  await act(async () => result.current.earlier());
  expect(read).toHaveBeenCalledTimes(1);
  await act(async () => result.current.again?.());
  expect(read).toHaveBeenCalledTimes(2);
});

test("trainings to compare that nobody could tell of are asked for again, not said to be missing", async () => {
  const get = vi.spyOn(jobs, "getJob").mockRejectedValue(LOST);
  open("/compare?jobs=jb_1,jb_2", Compare);
  await pass(100);
  expect(screen.getByText(UNREACHABLE)).toBeTruthy();
  expect(screen.queryByText("Choose two to six trainings")).toBeNull();
  expect(get).toHaveBeenCalledTimes(2);
  await pass(3100);
  expect(get).toHaveBeenCalledTimes(4);
});

test("nothing matches only once the last page of a search held nothing", async () => {
  const list = vi.spyOn(jobs, "listJobs").mockImplementation(async (request) =>
    create(ListJobsResponseSchema, {
      nextPageToken: request.pageToken === "" ? "2" : request.pageToken === "2" ? "3" : "",
    }),
  );
  open("/trainings?search=zebra", Trainings);
  await act(async () => undefined);
  expect(screen.queryByText("No training matches")).toBeNull();
  for (let page = 0; page < 3; page++) await pass(100);
  expect(list.mock.calls.map(([request]) => request.pageToken)).toEqual(["", "2", "3"]);
  expect(screen.getByText("No training matches")).toBeTruthy();
});
