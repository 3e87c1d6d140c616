import { Code } from "@connectrpc/connect";
import { useState } from "preact/hooks";
import { call, workflows } from "../../api/clients";
import { refusedField } from "../../api/details";
import { hasCode, sentence } from "../../api/errors";
import { type Dataset, DatasetFormat } from "../../gen/protos/training/v1/training_pb";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { RadioField, TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useRequestId } from "../../ui/use";
import { FORMATS, formatOf, locationProblem, taskName } from "./formats";
import css from "./workflows.module.css";

/** Names a dataset that lies on a box. Nothing is read yet. */
export function RegisterDataset({ onClose, onDone }: { onClose: () => void; onDone: (made: Dataset) => void }) {
  const [name, setName] = useState("");
  const [location, setLocation] = useState("");
  const [format, setFormat] = useState<DatasetFormat>(DatasetFormat.IMAGE_FOLDER);
  const [attempted, setAttempted] = useState(false);
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<{ field: string; problem: string }>();
  const wanted = { name: name.trim(), location: location.trim(), format };
  const requestId = useRequestId(JSON.stringify(wanted));
  const at = (field: string) => (refused?.field === field ? refused.problem : "");
  const nameProblem = attempted && name.trim() === "" ? "Give it a name." : at("name");
  const placeProblem = (attempted && locationProblem(location)) || at("location");
  const submit = async () => {
    setAttempted(true);
    setRefused(undefined);
    if (busy || name.trim() === "" || locationProblem(location)) return;
    setBusy(true);
    try {
      const { dataset } = await workflows.registerDataset({ requestId, ...wanted }, call());
      if (dataset) {
        say(`${dataset.name} is registered.`);
        onDone(dataset);
      }
    } catch (error) {
      const taken = hasCode(error, Code.AlreadyExists) ? { field: "name", problem: sentence(error) } : undefined;
      setRefused(taken ?? refusedField(error) ?? { field: "", problem: sentence(error) });
    } finally {
      setBusy(false);
    }
  };
  const chosen = formatOf({ format });
  return (
    <Dialog
      title="Register a dataset"
      width={720}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Register
          </Button>
        </>
      }
    >
      <TextField
        label="Name"
        value={name}
        onInput={setName}
        problem={nameProblem}
        placeholder="for example street-scenes"
        autoFocus
      />
      <TextField
        label="Location"
        value={location}
        onInput={setLocation}
        problem={placeProblem}
        placeholder="/data/street or s3://bucket/street"
        hint="An absolute path on the box that trains, or a URL that the box may read. The images stay where they are."
      />
      <div class={css.formats}>
        <RadioField
          label="Format"
          value={String(format)}
          options={FORMATS.map((one) => ({
            value: String(one.format),
            label: one.name,
            hint: `for ${taskName(one.task)}`,
          }))}
          onChange={(value) => setFormat(Number(value))}
        />
        <div>
          <p>{chosen.what}</p>
          <pre class={css.tree} aria-label={`Example of ${chosen.name}`}>
            {chosen.example}
          </pre>
        </div>
      </div>
      {refused && !["name", "location"].includes(refused.field) && <Note tone="bad">{refused.problem}</Note>}
    </Dialog>
  );
}
