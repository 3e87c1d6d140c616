import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { cleanup, render, screen } from "@testing-library/preact";
import { afterEach, expect, test } from "vitest";
import { JobSchema, JobState } from "../src/gen/protos/scheduler/v1/job_pb";
import { Banner } from "../src/pages/trainings/banner";
import { now } from "../src/time";
import { Toasts } from "../src/ui/toasts";

type Some = Omit<MessageInitShape<typeof JobSchema>, "$typeName" | "$unknown">;

const AT = 1_790_000_000_000;
const job = (of: Some = {}) => create(JobSchema, { jobId: "jb_1", name: "digits", state: JobState.RUNNING, ...of });
const page = (of: Some = {}) => (
  <>
    <Banner job={job(of)} />
    <Toasts />
  </>
);
const cutOff = { deadlineAtMs: BigInt(AT + 751_000), lastContactAtMs: BigInt(AT - 149_000) };

afterEach(cleanup);

test("the countdown follows the platform's clock, and says what happens at its end", () => {
  now.value = AT;
  render(page(cutOff));
  expect(screen.getByRole("timer").textContent).toBe("12:31");
  expect(screen.getByText(/for 2:29/)).toBeTruthy();
  expect(screen.getByText(/ends itself and saves a checkpoint/)).toBeTruthy();
});

test("heard again: the banner leaves, and it is told for how long it was cut off", () => {
  now.value = AT;
  const { rerender } = render(page(cutOff));
  now.value = AT + 60_000;
  rerender(page());
  expect(screen.queryByRole("timer")).toBeNull();
  expect(screen.getByText("digits is heard again; it was cut off for 3:29.")).toBeTruthy();
});

test("one that ended while it was cut off was not heard again", () => {
  now.value = AT;
  const { rerender } = render(page({ ...cutOff, name: "other" }));
  rerender(page({ name: "other", state: JobState.KILLED }));
  expect(screen.queryByText(/other is heard again/)).toBeNull();
});

test("a stalled training says since when, and what to do", () => {
  now.value = AT;
  render(page({ stalledSinceMs: BigInt(AT - 2_042_000) }));
  expect(screen.getByText(/no step for 34:02/)).toBeTruthy();
});
