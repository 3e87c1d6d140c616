import type { Architecture } from "../../gen/protos/training/v1/training_pb";
import { CheckField, SelectField, TextField } from "../../ui/fields";
import { fieldName, type Problems } from "../run/numbers";
import {
  defaultChoice,
  defaultText,
  HYPERPARAMETERS,
  type HyperField,
  hyperField,
  isFurther,
  OPTIMIZERS,
  PRECISIONS,
  SCHEDULES,
} from "./fields";
import type { WorkflowForm } from "./form";
import css from "./workflows.module.css";

interface Props {
  form: WorkflowForm;
  architecture: Architecture | undefined;
  problems: Problems;
  onChange: (form: WorkflowForm) => void;
}

/** All hyperparameters; an empty field is the architecture's default, which stands in it as a hint. */
export function Hyperparameters({ form, architecture, problems, onChange }: Props) {
  const number = (field: HyperField, disabled = false) => (
    <TextField
      key={field.key}
      label={field.label}
      hint={field.hint}
      inputMode={field.whole ? "numeric" : "decimal"}
      placeholder={disabled ? "" : defaultText(architecture, field.key)}
      value={disabled ? "" : form.hyper[field.key]}
      disabled={disabled}
      problem={problems[`hyperparameters.${fieldName(field.key)}`]}
      onInput={(value) => onChange({ ...form, hyper: { ...form.hyper, [field.key]: value } })}
    />
  );
  const basic = HYPERPARAMETERS.filter((field) => !isFurther(field.key) && field.key !== "batchSize");
  const further = ["hyperparameters.accumulate_batches", "hyperparameters.gradient_clip_norm", "hyperparameters.seed"];
  const changed =
    form.seed !== "" ||
    form.precision > 0 ||
    form.neverClip ||
    form.hyper.accumulateBatches !== "" ||
    form.hyper.gradientClipNorm !== "";
  return (
    <div class={css.stack}>
      <div class={css.fields}>
        <div class={css.stack}>
          {number(hyperField("batchSize"), form.autoBatch)}
          <CheckField
            checked={form.autoBatch}
            onChange={(autoBatch) => onChange({ ...form, autoBatch })}
            hint="The largest that fits the GPU, found by trying."
          >
            Auto
          </CheckField>
        </div>
        {form.autoBatch && number(hyperField("autoBatchVramShare"))}
        {basic.map((field) => number(field))}
        <Choice
          label="Optimizer"
          of={OPTIMIZERS}
          value={form.optimizer}
          usual={defaultChoice(architecture, "optimizer")}
          onChange={(optimizer) => onChange({ ...form, optimizer })}
        />
        <Choice
          label="Learning rate over time"
          of={SCHEDULES}
          value={form.schedule}
          usual={defaultChoice(architecture, "schedule")}
          onChange={(schedule) => onChange({ ...form, schedule })}
        />
      </div>
      <details class={css.more} open={changed || further.some((field) => problems[field]) || undefined}>
        <summary>More hyperparameters</summary>
        <div class={css.fields}>
          <Choice
            label="Precision"
            of={PRECISIONS}
            value={form.precision}
            usual={defaultChoice(architecture, "precision")}
            onChange={(precision) => onChange({ ...form, precision })}
          />
          {number(hyperField("accumulateBatches"))}
          <div class={css.stack}>
            {number(hyperField("gradientClipNorm"), form.neverClip)}
            <CheckField checked={form.neverClip} onChange={(neverClip) => onChange({ ...form, neverClip })}>
              Never clip
            </CheckField>
          </div>
          <TextField
            label="Seed"
            hint="Of the split, the weights and the order of the images."
            inputMode="numeric"
            placeholder={defaultText(architecture, "seed")}
            value={form.seed}
            problem={problems["hyperparameters.seed"]}
            onInput={(seed) => onChange({ ...form, seed })}
          />
        </div>
      </details>
    </div>
  );
}

interface ChoiceProps<T extends number> {
  label: string;
  of: readonly (readonly [T, string])[];
  value: T | 0;
  usual: number;
  onChange: (value: T) => void;
}

function Choice<T extends number>({ label, of, value, usual, onChange }: ChoiceProps<T>) {
  const name = of.find(([one]) => one === usual)?.[1];
  return (
    <SelectField
      label={label}
      value={String(value)}
      options={[
        { value: "0", label: name ? `Default: ${name}` : "Default" },
        ...of.map(([one, text]) => ({ value: String(one), label: text })),
      ]}
      onChange={(chosen) => onChange(Number(chosen) as T)}
    />
  );
}
