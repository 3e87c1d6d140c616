import { useState } from "preact/hooks";
import { artifacts, call, newRequestId } from "../../api/clients";
import { integer } from "../../format";
import { ArtifactKind, ArtifactState } from "../../gen/protos/metrics/v1/artifact_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import type { Checkpoint } from "../../gen/protos/training/v1/training_pb";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction } from "../../ui/use";
import css from "./checkpoints.module.css";

const KINDS = [
  [ArtifactKind.ONNX, "ONNX", "The whole model, for runtimes that know neither Tether nor Python."],
  [ArtifactKind.SAFETENSORS, "Weights alone (safetensors)", "Without optimiser and step, to be loaded in Python."],
] as const;

/** Has a box turn a checkpoint into a file for use elsewhere. */
export function Export(props: { job: Job; checkpoint: Checkpoint; onAsked: () => void; onClose: () => void }) {
  const { job, checkpoint, onAsked, onClose } = props;
  const [kind, setKind] = useState<ArtifactKind>(ArtifactKind.ONNX);
  // What is pressed twice is asked for once.
  const [requestIds] = useState(() => new Map(KINDS.map(([one]) => [one as ArtifactKind, newRequestId()])));
  const { busy, problem, run, clear } = useAction();
  const submit = async () => {
    const request = { requestId: requestIds.get(kind), jobId: job.jobId, checkpoint: checkpoint.name, kind };
    await run(async () => {
      const { artifact } = await artifacts.exportModel(request, call());
      say(artifact?.state === ArtifactState.READY ? `${artifact.name} is there already.` : "A box makes the file.");
      onAsked();
      onClose();
    });
  };
  return (
    <Dialog
      title={`Export the checkpoint of step ${integer(checkpoint.step)}`}
      width={480}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Export
          </Button>
        </>
      }
    >
      <fieldset class={css.kinds}>
        <legend>What it is turned into</legend>
        {KINDS.map(([value, label, hint]) => (
          <label key={label}>
            <input
              type="radio"
              name="kind"
              checked={kind === value}
              onChange={() => {
                clear();
                setKind(value);
              }}
            />
            <span>
              {label}
              <span class="quiet">{hint}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <p class="quiet">A box that has the checkpoint makes it; it costs no minutes. The file appears under Exports.</p>
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}
