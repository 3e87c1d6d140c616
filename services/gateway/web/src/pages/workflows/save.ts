import { Code } from "@connectrpc/connect";
import { useRef, useState } from "preact/hooks";
import { call, workflows } from "../../api/clients";
import { refusedField, revisedMeanwhile } from "../../api/details";
import { hasCode, sentence } from "../../api/errors";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import { useRequestId } from "../../ui/use";
import { type WorkflowForm, workflowOf } from "./form";

interface Failure {
  /** The platform's name of the field, from the workflow on; empty: of none. */
  readonly field: string;
  /** What is said at the field. */
  readonly problem: string;
  readonly sentence: string;
}

/** Creates and revises: what is under way, what was refused, and at which revision somebody else has left it. */
export function useSave(form: WorkflowForm, known: { workflowId: string; revision: number }) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const [conflict, setConflict] = useState<number>();
  const underway = useRef(false);
  // Saving over another's revision is another thing to ask for.
  const requestId = useRequestId(JSON.stringify([form, known, conflict]));

  const attempt = async (action: () => Promise<SavedWorkflow | undefined>): Promise<SavedWorkflow | undefined> => {
    if (underway.current) return undefined;
    underway.current = true;
    setBusy(true);
    setFailure(undefined);
    try {
      const made = await action();
      setConflict(undefined);
      return made;
    } catch (error) {
      const revision = revisedMeanwhile(error);
      if (revision !== undefined) setConflict(revision);
      else setFailure(failureOf(error));
      return undefined;
    } finally {
      underway.current = false;
      setBusy(false);
    }
  };

  /** Saves the form; `over` says which revision it replaces. */
  const store = (over: number) =>
    attempt(async () => {
      const workflow = workflowOf(form, { ...known, revision: over });
      const answer = known.workflowId
        ? await workflows.reviseWorkflow({ requestId, workflow }, call())
        : await workflows.createWorkflow({ requestId, workflow }, call());
      return answer.workflow;
    });

  const load = (workflowId: string) =>
    attempt(async () => (await workflows.getWorkflow({ workflowId }, call())).workflow);

  return { busy, failure, conflict, store, load, clear: () => setFailure(undefined) };
}

function failureOf(error: unknown): Failure {
  const said = sentence(error);
  if (hasCode(error, Code.AlreadyExists)) return { field: "name", problem: said, sentence: said };
  const refused = refusedField(error);
  return { field: refused?.field.replace(/^workflow\./, "") ?? "", problem: refused?.problem ?? "", sentence: said };
}
