import { useState } from "preact/hooks";
import { workflows as api, call } from "../../api/clients";
import type { ListRatesResponse, SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import type { Architecture, TrainingSpec } from "../../gen/protos/training/v1/training_pb";
import { Button, ButtonLink } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { SelectField } from "../../ui/fields";
import { Empty, Failed, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { TrainingSettings } from "./training-settings";

interface RunTrainingProps {
  /** The saved workflow to train, by id; without one the dialog asks which. */
  workflowId?: string;
  /** The settings of an earlier training, to begin with them. */
  like?: TrainingSpec;
  onClose: () => void;
}

interface Known {
  readonly workflows: readonly SavedWorkflow[];
  readonly architectures: readonly Architecture[];
  readonly rates: ListRatesResponse;
}

/** The dialog Training Settings: what is asked for with each training, and where it runs. */
export function RunTraining({ workflowId = "", like, onClose }: RunTrainingProps) {
  const [picked, setPicked] = useState(workflowId);
  const asked = useAsked(
    async (signal): Promise<Known> => {
      const options = call(signal);
      const [workflows, { architectures }, rates] = await Promise.all([
        workflowId
          ? api.getWorkflow({ workflowId }, options).then(({ workflow }) => (workflow ? [workflow] : []))
          : api.listWorkflows({}, options).then((answer) => answer.workflows),
        api.listArchitectures({}, options),
        api.listRates({}, options),
      ]);
      return { workflows, architectures, rates };
    },
    [workflowId],
  );
  const known = asked.value;
  const saved = known?.workflows.find((one) => one.workflow?.workflowId === picked);
  const picker = !workflowId && known !== undefined && known.workflows.length > 0 && (
    <SelectField
      label="Workflow"
      value={picked}
      options={[
        { value: "", label: "Choose a workflow", disabled: true },
        ...known.workflows.map((one) => ({
          value: one.workflow?.workflowId ?? "",
          label: `${one.workflow?.name} · ${one.datasetName} · ${one.workflow?.architectureId}`,
        })),
      ]}
      onChange={setPicked}
    />
  );
  if (known !== undefined && saved !== undefined)
    return (
      <TrainingSettings
        key={picked}
        saved={saved}
        architecture={known.architectures.find((one) => one.architectureId === saved.workflow?.architectureId)}
        advancedMicros={known.rates.advancedEvaluationMicros}
        like={like}
        picker={picker}
        onClose={onClose}
      />
    );
  return (
    <Dialog
      title="Training Settings"
      width={1080}
      onClose={onClose}
      actions={<Button onClick={onClose}>Cancel</Button>}
    >
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      {known === undefined ? (
        !asked.problem && <Loading what="Loading the workflow" />
      ) : known.workflows.length > 0 ? (
        picker
      ) : (
        <Empty title="No workflow yet" action={<ButtonLink href="/workflows/new">New workflow</ButtonLink>}>
          A workflow says what is trained: dataset, architecture, hyperparameters.
        </Empty>
      )}
    </Dialog>
  );
}
