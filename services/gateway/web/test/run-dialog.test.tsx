import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/preact";
import { LocationProvider } from "preact-iso";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RunnerStatus } from "../src/gen/protos/events/v1/runner_pb";
import type { SubmitJobRequest } from "../src/gen/protos/scheduler/v1/job_pb";
import { type Runner, RunnerSchema } from "../src/gen/protos/scheduler/v1/runner_pb";
import {
  GetWorkflowResponseSchema,
  ListArchitecturesResponseSchema,
  ListRatesResponseSchema,
  ListWorkflowsResponseSchema,
} from "../src/gen/protos/scheduler/v1/workflow_pb";
import { runners } from "../src/live/stores";
import { RunTraining } from "../src/pages/run/run";

const submitJob = vi.hoisted(() => vi.fn<(request: SubmitJobRequest) => Promise<unknown>>());

const SAVED = vi.hoisted(() => ({
  datasetName: "digits",
  workflow: { workflowId: "wf_one", name: "mine", revision: 1, architectureId: "net" },
}));

vi.mock("../src/api/clients", () => {
  let ids = 0;
  return {
    call: () => ({}),
    newRequestId: () => `id-${++ids}`,
    jobs: { submitJob },
    quota: { getUsage: () => Promise.reject(new Error("no usage here")) },
    workflows: {
      getWorkflow: async () => create(GetWorkflowResponseSchema, { workflow: SAVED }),
      listWorkflows: async () => create(ListWorkflowsResponseSchema, { workflows: [SAVED] }),
      listArchitectures: async () =>
        create(ListArchitecturesResponseSchema, { architectures: [{ architectureId: "net", defaultEpochs: 10 }] }),
      listRates: async () => create(ListRatesResponseSchema, { advancedEvaluationMicros: 1_500_000n }),
    },
  };
});

function watched(...some: [string, RunnerStatus][]): ReadonlyMap<string, Runner> {
  return new Map(
    some.map(([name, status]) => [
      `rn_${name}`,
      create(RunnerSchema, { runnerId: `rn_${name}`, name, status, connected: true, rateMicros: 2_000_000n }),
    ]),
  );
}

const box = () => screen.getByRole("combobox", { name: /Runner/ });
const button = (name: string) => screen.getByRole<HTMLButtonElement>("button", { name });
const press = (...keys: string[]) => {
  for (const key of keys) fireEvent.keyDown(box(), { key });
};
const dialog = (workflowId?: string) =>
  render(
    <LocationProvider>
      <RunTraining workflowId={workflowId} onClose={() => undefined} />
    </LocationProvider>,
  );
const open = async () => {
  dialog("wf_one");
  await waitFor(box);
};

beforeEach(() => {
  submitJob.mockReset();
  localStorage.clear();
});
afterEach(cleanup);

describe("Training Settings", () => {
  it("keeps the choice where its runner goes away, says why, and takes no training until that is settled", async () => {
    runners.value = watched(["a", RunnerStatus.ONLINE], ["b", RunnerStatus.OCCUPIED]);
    await open();
    expect(box().textContent).toContain("ONLINEa");
    await act(() => {
      runners.value = watched(["a", RunnerStatus.SUSPENDED], ["b", RunnerStatus.ONLINE]);
    });
    expect(box().textContent).toContain("SUSPENDEDa");
    expect(screen.getByText(/a is SUSPENDED now/)).toBeTruthy();
    expect(button("Run Training").disabled).toBe(true);
    fireEvent.click(button("Queue for a instead"));
    await waitFor(() => expect(button("Queue Training").disabled).toBe(false));
  });

  it("is chosen from by keyboard alone, past what is disabled", async () => {
    runners.value = watched(["a", RunnerStatus.ONLINE], ["b", RunnerStatus.OCCUPIED]);
    await open();
    press("Enter", "ArrowDown");
    const active = () => document.getElementById(box().getAttribute("aria-activedescendant") ?? "")?.textContent;
    await waitFor(() => expect(active()).toContain("Queue for b"));
    expect(screen.getAllByRole("option").map((one) => one.getAttribute("aria-disabled"))).toEqual([
      null,
      "true",
      null,
      null,
    ]);
    press("End");
    await waitFor(() => expect(active()).toContain("Any that matches"));
    press("Enter");
    await waitFor(() => expect(box().textContent).toContain("Any that matches"));
    expect(screen.queryByRole("listbox")).toBeNull();
  });

  it("offers the queue where no runner is online", async () => {
    runners.value = watched(["b", RunnerStatus.OCCUPIED]);
    await open();
    fireEvent.click(button("Queue for any that matches"));
    await waitFor(() => expect(button("Queue Training").disabled).toBe(false));
  });

  it("sends one request however often it is pressed, and the same id again for the same content only", async () => {
    runners.value = watched(["a", RunnerStatus.ONLINE]);
    submitJob.mockRejectedValue(new ConnectError("runner a is OCCUPIED now", Code.FailedPrecondition));
    await open();
    await waitFor(() => expect(button("Run Training").disabled).toBe(false));
    // Twice before anything is drawn anew, as an impatient hand does.
    await act(() => {
      button("Run Training").click();
      button("Run Training").click();
    });
    // The refusal stays to be read, and so does what was chosen.
    await waitFor(() => expect(screen.getByText("Runner a is OCCUPIED now")).toBeTruthy());
    expect(submitJob).toHaveBeenCalledTimes(1);
    fireEvent.click(button("Run Training"));
    await waitFor(() => expect(submitJob).toHaveBeenCalledTimes(2));
    await waitFor(() => expect(button("Run Training").disabled).toBe(false));
    fireEvent.input(screen.getByLabelText("Epochs"), { target: { value: "3" } });
    await waitFor(() => expect(screen.queryByText("Runner a is OCCUPIED now")).toBeNull());
    fireEvent.click(button("Run Training"));
    await waitFor(() => expect(submitJob).toHaveBeenCalledTimes(3));
    const [first, second, third] = submitJob.mock.calls.map(([request]) => request);
    expect(second?.requestId).toBe(first?.requestId);
    expect(third?.requestId).not.toBe(first?.requestId);
    expect(third).toMatchObject({ workflowId: "wf_one", runnerId: "rn_a", limits: { epochs: 3 } });
  });

  it("asks for the workflow where it is opened without one", async () => {
    runners.value = watched(["a", RunnerStatus.ONLINE]);
    dialog();
    fireEvent.change(await screen.findByLabelText("Workflow"), { target: { value: "wf_one" } });
    await waitFor(() => expect(box().textContent).toContain("ONLINEa"));
    expect(button("Run Training").disabled).toBe(false);
  });
});
