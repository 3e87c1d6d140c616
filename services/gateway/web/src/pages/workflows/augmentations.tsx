import { useId } from "preact/hooks";
import type { Architecture } from "../../gen/protos/training/v1/training_pb";
import { Button } from "../../ui/button";
import { Badge } from "../../ui/note";
import { fieldName, numberOf, type Problems } from "../run/numbers";
import { AUGMENTATIONS, type AugmentationField } from "./fields";
import { type Amounts, amountsOf } from "./form";
import css from "./workflows.module.css";

interface Props {
  /** Undefined: the architecture's. */
  own: Amounts | undefined;
  architecture: Architecture | undefined;
  problems: Problems;
  onChange: (own: Amounts | undefined) => void;
}

/** Random changes of the training images: the architecture's own until one of them is moved. */
export function Augmentations({ own, architecture, problems, onChange }: Props) {
  const usual = amountsOf(architecture?.defaultAugmentations);
  const amounts = own ?? usual;
  return (
    <div class={css.stack}>
      <div class={css.bar}>
        {own === undefined ? <Badge>the architecture's</Badge> : <Badge tone="busy">your own</Badge>}
        <span class={css.barEnd}>
          <Button small disabled={own === undefined} onClick={() => onChange(undefined)}>
            Reset to the default
          </Button>
          <Button small onClick={() => onChange(amountsOf(undefined))}>
            None
          </Button>
        </span>
      </div>
      <div class={css.amounts}>
        {AUGMENTATIONS.map((field) => (
          <Amount
            key={field.key}
            field={field}
            value={amounts[field.key]}
            usual={usual[field.key]}
            problem={problems[`augmentations.${fieldName(field.key)}`]}
            onInput={(value) => onChange({ ...amounts, [field.key]: value })}
          />
        ))}
      </div>
    </div>
  );
}

interface AmountProps {
  field: AugmentationField;
  value: string;
  usual: string;
  problem: string | undefined;
  onInput: (value: string) => void;
}

/** One as a slider and a number, which show the same. */
function Amount({ field, value, usual, problem, onInput }: AmountProps) {
  const id = useId();
  const hint = `${field.hint}${numberOf(usual) > 0 ? `, by default ${usual}` : ""}`;
  return (
    <div class={css.amount}>
      <label for={id}>
        {field.label} <span class={css.amountHint}>{hint}</span>
      </label>
      <input
        type="range"
        aria-label={`${field.label}, slider`}
        min={0}
        max={field.max}
        step={field.step}
        value={numberOf(value)}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      <input
        id={id}
        class={css.amountNumber}
        inputMode="decimal"
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
        aria-invalid={problem ? true : undefined}
        aria-describedby={problem ? `${id}-problem` : undefined}
      />
      {problem && (
        <span class={css.problem} id={`${id}-problem`} role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}
