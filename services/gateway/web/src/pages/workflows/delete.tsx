import { call, workflows } from "../../api/clients";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import { Confirm } from "../../ui/dialog";
import { say } from "../../ui/toasts";
import { useRequestId } from "../../ui/use";

interface Props {
  of: SavedWorkflow;
  onClose: () => void;
  onDone: () => void;
}

export function DeleteWorkflow({ of, onClose, onDone }: Props) {
  const { workflowId = "", name = "" } = of.workflow ?? {};
  const requestId = useRequestId(workflowId);
  const action = async () => {
    await workflows.deleteWorkflow({ requestId, workflowId }, call());
    say(`${name} is deleted.`);
    onDone();
  };
  return (
    <Confirm title={`Delete ${name}?`} verb="Delete" danger action={action} onClose={onClose}>
      The trainings that were made from it stay, with their settings, checkpoints and charges. Its name is free again.
    </Confirm>
  );
}
