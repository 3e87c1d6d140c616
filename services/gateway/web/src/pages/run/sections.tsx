import { factor } from "../../format";
import { type Architecture, CheckpointPolicy } from "../../gen/protos/training/v1/training_pb";
import { CheckField, RadioField, TextField } from "../../ui/fields";
import type { Problems } from "./numbers";
import css from "./run.module.css";
import { DEFAULT_STALL_MINUTES, keepsBest, POLICIES, type RunForm } from "./settings";

interface Props {
  form: RunForm;
  onChange: (part: Partial<RunForm>) => void;
}

/** How often is evaluated, and which checkpoints are kept. */
export function Checkpoints({ form, problems, onChange }: Props & { problems: Problems }) {
  return (
    <section class={css.section} aria-labelledby="run-checkpoints">
      <h3 id="run-checkpoints">Checkpoint Strategy</h3>
      <TextField
        label="Evaluation interval"
        hint="Optimiser steps between evaluations; empty: once an epoch."
        inputMode="numeric"
        placeholder="once an epoch"
        value={form.evaluationIntervalSteps}
        problem={problems["checkpoint_strategy.evaluation_interval_steps"]}
        onInput={(evaluationIntervalSteps) => onChange({ evaluationIntervalSteps })}
      />
      <RadioField
        label="Which checkpoints are kept"
        value={String(form.policy)}
        options={POLICIES.map((one) => ({ value: String(one.policy), label: one.label, hint: one.what }))}
        onChange={(policy) => onChange({ policy: Number(policy) })}
      />
      {form.policy === CheckpointPolicy.EVERY_N_EVALUATIONS && (
        <TextField
          label="Save after every … evaluations"
          inputMode="numeric"
          placeholder="1"
          value={form.everyNEvaluations}
          problem={problems["checkpoint_strategy.every_n_evaluations"]}
          onInput={(everyNEvaluations) => onChange({ everyNEvaluations })}
        />
      )}
      {keepsBest(form.policy) && (
        <TextField
          label="Keep the best"
          hint="How many; the newest is always kept as well."
          inputMode="numeric"
          placeholder="1"
          value={form.keepBest}
          problem={problems["checkpoint_strategy.keep_best"]}
          onInput={(keepBest) => onChange({ keepBest })}
        />
      )}
    </section>
  );
}

export function Evaluation({ form, advancedMicros, onChange }: Props & { advancedMicros: bigint }) {
  return (
    <section class={css.section} aria-labelledby="run-evaluation">
      <h3 id="run-evaluation">Advanced Evaluation</h3>
      <CheckField
        checked={form.advanced}
        onChange={(advanced) => onChange({ advanced })}
        hint="Images with ground truth beside prediction for each evaluation, and recommendations: what goes wrong, and what to do about it."
      >
        Evaluation preview and recommendations <strong class={css.price}>{factor(advancedMicros)} the minutes</strong>
      </CheckField>
      <CheckField
        checked={form.confusionMatrix}
        onChange={(confusionMatrix) => onChange({ confusionMatrix })}
        hint="Which classes are taken for which others."
      >
        Confusion matrix <strong class={css.price}>free of charge</strong>
      </CheckField>
    </section>
  );
}

type LimitKey = "epochs" | "steps" | "minutes" | "earlyStoppingPatience" | "retries" | "stallMinutes";

/** When the training ends, besides being done. */
export function Limits({
  form,
  problems,
  architecture,
  onChange,
}: Props & { problems: Problems; architecture: Architecture | undefined }) {
  const ends = form.epochs || form.steps || form.minutes;
  const number = (key: LimitKey, field: string, label: string, hint: string, placeholder: string, disabled = false) => (
    <TextField
      label={label}
      hint={hint}
      inputMode="numeric"
      placeholder={placeholder}
      value={disabled ? "" : form[key]}
      disabled={disabled}
      problem={problems[`limits.${field}`]}
      onInput={(value) => onChange({ [key]: value })}
    />
  );
  const epochs = ends ? "no limit" : String(architecture?.defaultEpochs ?? "");
  return (
    <section class={css.section} aria-labelledby="run-limits">
      <h3 id="run-limits">Limits</h3>
      <p class="quiet">It ends at whichever comes first.</p>
      <div class={css.fields}>
        {number("epochs", "epochs", "Epochs", "", epochs)}
        {number("steps", "steps", "Steps", "", "no limit")}
        {number("minutes", "minutes", "Minutes", "Of training, by the clock.", "no limit")}
        {number(
          "earlyStoppingPatience",
          "early_stopping_patience",
          "Patience",
          "Evaluations without improvement.",
          "no limit",
        )}
        {number("retries", "retries", "Retries", "Where the box lets it down.", "none")}
        {number(
          "stallMinutes",
          "stall_minutes",
          "Stalled after",
          "Minutes without a step.",
          String(DEFAULT_STALL_MINUTES),
          form.neverStalled,
        )}
      </div>
      <CheckField
        checked={form.stopWhenStalled && !form.neverStalled}
        disabled={form.neverStalled}
        onChange={(stopWhenStalled) => onChange({ stopWhenStalled })}
      >
        Stop it when it is stalled
      </CheckField>
      <CheckField checked={form.neverStalled} onChange={(neverStalled) => onChange({ neverStalled })}>
        Never count it as stalled
      </CheckField>
    </section>
  );
}
