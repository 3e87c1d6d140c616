import { useState } from "preact/hooks";
import { mayWrite } from "../../api/session";
import { type Architecture, type Dataset, Task } from "../../gen/protos/training/v1/training_pb";
import { Button } from "../../ui/button";
import { SelectField, TextField } from "../../ui/fields";
import { Card } from "../../ui/layout";
import { Failed, Loading } from "../../ui/note";
import type { Asked } from "../../ui/use";
import type { Problems } from "../run/numbers";
import { Architectures, NoTask, Requirements } from "./architectures";
import { Augmentations } from "./augmentations";
import { reports } from "./catalogue";
import { CheckDataset } from "./check";
import { RegisterAndCheck } from "./datasets";
import type { WorkflowForm } from "./form";
import { formatOf, taskName } from "./formats";
import { Hyperparameters } from "./hyperparameters";
import { Report } from "./report";
import { InitialWeights } from "./weights";
import css from "./workflows.module.css";

interface Props {
  form: WorkflowForm;
  datasets: Asked<Dataset[]>;
  architectures: Asked<Architecture[]>;
  problems: Problems;
  onChange: (form: WorkflowForm) => void;
}

/** All parts of the form. */
export function Sections({ form, datasets, architectures, problems, onChange }: Props) {
  const dataset = datasets.value?.find((one) => one.datasetId === form.datasetId);
  const architecture = architectures.value?.find((one) => one.architectureId === form.architectureId);
  const task = dataset ? formatOf(dataset).task : Task.UNSPECIFIED;
  // Who cannot choose sees what was chosen.
  const offered = (one: Architecture) => one.task === task && (mayWrite.value || one === architecture);
  const fitting = architectures.value?.filter(offered) ?? [];
  return (
    <div class={css.sections}>
      <div class={css.column}>
        <Card title="Name and dataset">
          <div class={css.stack}>
            <TextField
              label="Name"
              value={form.name}
              problem={problems.name}
              placeholder="for example digits-small"
              onInput={(name) => onChange({ ...form, name })}
            />
            <DatasetField form={form} datasets={datasets} problems={problems} onChange={onChange} />
          </div>
        </Card>
        <Card title={task === Task.UNSPECIFIED ? "Architecture" : `Architecture for ${taskName(task)}`}>
          {architectures.problem && architectures.value === undefined ? (
            <Failed retry={architectures.reload}>{architectures.problem}</Failed>
          ) : architectures.value === undefined ? (
            <Loading what="Loading the catalogue" />
          ) : task === Task.UNSPECIFIED ? (
            <NoTask />
          ) : (
            <div class={css.chooser}>
              <Architectures
                architectures={fitting}
                chosen={form.architectureId}
                problem={problems.architecture_id}
                onChoose={(architectureId) => onChange({ ...form, architectureId })}
              />
              {architecture && <Requirements of={architecture} />}
            </div>
          )}
        </Card>
        <Card title="Initial weights">
          <InitialWeights
            weights={form.weights}
            architecture={architecture}
            problems={problems}
            onChange={(weights) => onChange({ ...form, weights })}
          />
        </Card>
      </div>
      <div class={css.column}>
        <Card title="Hyperparameters">
          <Hyperparameters form={form} architecture={architecture} problems={problems} onChange={onChange} />
        </Card>
        <Card title="Augmentations">
          <Augmentations
            own={form.augmentations}
            architecture={architecture}
            problems={problems}
            onChange={(augmentations) => onChange({ ...form, augmentations })}
          />
        </Card>
      </div>
    </div>
  );
}

type DatasetProps = Pick<Props, "form" | "datasets" | "problems" | "onChange">;

function DatasetField({ form, datasets, problems, onChange }: DatasetProps) {
  const [checking, setChecking] = useState(false);
  const [registering, setRegistering] = useState(false);
  const all = datasets.value;
  const dataset = all?.find((one) => one.datasetId === form.datasetId);
  const kept = dataset && reports.value.get(dataset.datasetId);
  const choose = (datasetId: string) => onChange({ ...form, datasetId });
  return (
    <div class={css.stack}>
      {datasets.problem && all === undefined && <Failed retry={datasets.reload}>{datasets.problem}</Failed>}
      <SelectField
        label="Dataset"
        value={form.datasetId}
        problem={problems.dataset_id}
        hint={dataset && <code class="break">{dataset.location}</code>}
        options={[
          { value: "", label: all?.length === 0 ? "There is none yet: register one" : "Choose a dataset" },
          ...(form.datasetId !== "" && dataset === undefined
            ? [{ value: form.datasetId, label: all === undefined ? "…" : form.datasetId }]
            : []),
          ...(all ?? []).map((one) => ({
            value: one.datasetId,
            label: `${one.name} · ${formatOf(one).name} · ${taskName(formatOf(one).task)}`,
          })),
        ]}
        onChange={choose}
      />
      {mayWrite.value && (
        <div class={css.choices}>
          {dataset && (
            <Button small onClick={() => setChecking(true)}>
              {kept ? "Check it again…" : "Check it…"}
            </Button>
          )}
          <Button small onClick={() => setRegistering(true)}>
            Register a dataset…
          </Button>
        </div>
      )}
      {kept && (
        <details class={css.more}>
          <summary>
            {kept.report.usable ? "✔ The last check found it usable" : "✘ The last check found it not usable"}
          </summary>
          <Report of={kept} />
        </details>
      )}
      {checking && dataset && <CheckDataset dataset={dataset} onClose={() => setChecking(false)} />}
      {registering && (
        <RegisterAndCheck
          onClose={() => setRegistering(false)}
          onDone={(made) => {
            datasets.reload();
            choose(made.datasetId);
          }}
        />
      )}
    </div>
  );
}
