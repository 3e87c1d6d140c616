import { create } from "@bufbuild/protobuf";
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/preact";
import { LocationProvider } from "preact-iso";
import { afterEach, expect, it, vi } from "vitest";
import { SavedWorkflowSchema } from "../src/gen/protos/scheduler/v1/workflow_pb";
import { Editor } from "../src/pages/workflows/editor";
import { formOf } from "../src/pages/workflows/form";

const reviseWorkflow = vi.hoisted(() => vi.fn<() => Promise<unknown>>());

vi.mock("../src/api/session", () => ({ mayWrite: { value: true }, who: { value: undefined } }));
vi.mock("../src/api/clients", () => ({
  call: () => ({}),
  newRequestId: () => "id",
  jobs: { listJobs: () => new Promise(() => {}) },
  // Neither the datasets nor the architectures are known: nothing is wrong with those that are named.
  workflows: {
    reviseWorkflow,
    listDatasets: () => new Promise(() => {}),
    listArchitectures: () => new Promise(() => {}),
  },
}));
afterEach(cleanup);

const saved = (name: string, revision: number) => {
  const workflow = { workflowId: "wf_1", name, revision, datasetId: "ds_1", architectureId: "net" };
  return create(SavedWorkflowSchema, { workflow });
};
const name = () => screen.getByLabelText<HTMLInputElement>("Name");
const type = (text: string) => fireEvent.input(name(), { target: { value: text } });

it("keeps what is typed while it is saved, as not saved yet", async () => {
  const { workflow } = saved("one", 1);
  if (workflow === undefined) throw new Error("no workflow");
  let answer: (value: unknown) => void = () => undefined;
  reviseWorkflow.mockReturnValue(
    new Promise((resolve) => {
      answer = resolve;
    }),
  );
  render(
    <LocationProvider>
      <Editor begin={formOf(workflow)} saved={saved("one", 1)} />
    </LocationProvider>,
  );
  type("two");
  await waitFor(() => expect(screen.getByText("Not saved")).toBeTruthy());
  fireEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(reviseWorkflow).toHaveBeenCalledTimes(1));
  type("three");
  await act(async () => answer({ workflow: saved("two", 2) }));
  await waitFor(() => expect(screen.getByText(/Revision 2 · saved/)).toBeTruthy());
  expect(name().value).toBe("three");
  expect(screen.getByText("Not saved")).toBeTruthy();
});
