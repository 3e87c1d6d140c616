import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import css from "./kit.module.css";

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  /** What is wrong with the value; one sentence. */
  problem?: string;
}

interface Wiring {
  id: string;
  describedBy: string | undefined;
  invalid: boolean | undefined;
}

function Field({ label, hint, problem, children }: FieldProps & { children: (wiring: Wiring) => ComponentChildren }) {
  const id = useId();
  const [hintId, problemId] = [`${id}-hint`, `${id}-problem`];
  const describedBy = [hint && hintId, problem && problemId].filter(Boolean).join(" ") || undefined;
  return (
    <div class={css.field}>
      <label class={css.label} for={id}>
        {label}
      </label>
      {children({ id, describedBy, invalid: problem ? true : undefined })}
      {hint && (
        <span class={css.hint} id={hintId}>
          {hint}
        </span>
      )}
      {problem && (
        <span class={css.problem} id={problemId} role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}

interface TextProps extends FieldProps {
  value: string;
  onInput: (value: string) => void;
  placeholder?: string;
  type?: "text" | "search" | "password" | "url" | "datetime-local" | "month";
  /** `off` for what no browser should keep. */
  autoComplete?: string;
  disabled?: boolean;
  autoFocus?: boolean;
  max?: string;
  /** Which keys a telephone offers. */
  inputMode?: "numeric" | "decimal";
}

export function TextField({ label, hint, problem, value, onInput, type = "text", ...more }: TextProps) {
  return (
    <Field label={label} hint={hint} problem={problem}>
      {({ id, describedBy, invalid }) => (
        <input
          {...more}
          id={id}
          // The element's types tell kinds of input apart by what else they take; all of ours take the same.
          type={type as "text"}
          class={css.input}
          value={value}
          spellcheck={false}
          onInput={(event) => onInput(event.currentTarget.value)}
          aria-describedby={describedBy}
          aria-invalid={invalid}
        />
      )}
    </Field>
  );
}

interface NumberProps extends FieldProps {
  /** Empty: the default. */
  value: string;
  onInput: (value: string) => void;
  placeholder?: string;
  min?: number;
  max?: number;
  /** `any` for numbers that need not be whole. */
  step?: number | "any";
  disabled?: boolean;
}

export function NumberField({ label, hint, problem, value, onInput, step = 1, ...more }: NumberProps) {
  return (
    <Field label={label} hint={hint} problem={problem}>
      {({ id, describedBy, invalid }) => (
        <input
          {...more}
          id={id}
          type="number"
          inputMode={step === 1 ? "numeric" : "decimal"}
          step={step}
          class={css.input}
          value={value}
          onInput={(event) => onInput(event.currentTarget.value)}
          aria-describedby={describedBy}
          aria-invalid={invalid}
        />
      )}
    </Field>
  );
}

export interface Option {
  readonly value: string;
  readonly label: string;
  readonly disabled?: boolean;
}

interface SelectProps extends FieldProps {
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
  disabled?: boolean;
}

export function SelectField({ label, hint, problem, value, options, onChange, disabled }: SelectProps) {
  return (
    <Field label={label} hint={hint} problem={problem}>
      {({ id, describedBy, invalid }) => (
        <select
          id={id}
          class={css.input}
          value={value}
          disabled={disabled}
          onChange={(event) => onChange(event.currentTarget.value)}
          aria-describedby={describedBy}
          aria-invalid={invalid}
        >
          {options.map((option) => (
            <option key={option.value} value={option.value} disabled={option.disabled}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface CheckProps {
  checked: boolean;
  onChange: (checked: boolean) => void;
  disabled?: boolean;
  children: ComponentChildren;
  hint?: ComponentChildren;
}

export function CheckField({ checked, onChange, disabled, children, hint }: CheckProps) {
  const id = useId();
  return (
    <div class={css.check}>
      <input
        id={id}
        type="checkbox"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.checked)}
        aria-describedby={hint ? `${id}-hint` : undefined}
      />
      <div>
        <label for={id}>{children}</label>
        {hint && (
          <div class={css.hint} id={`${id}-hint`}>
            {hint}
          </div>
        )}
      </div>
    </div>
  );
}

interface RadioProps {
  /** What is chosen; names the group. */
  label: string;
  value: string;
  options: readonly (Option & { readonly hint?: ComponentChildren })[];
  onChange: (value: string) => void;
}

/** A few choices, each with what it means. */
export function RadioField({ label, value, options, onChange }: RadioProps) {
  const id = useId();
  return (
    <fieldset class={css.radios}>
      <legend class={css.label}>{label}</legend>
      {options.map((option) => (
        <div key={option.value} class={css.check}>
          <input
            id={`${id}-${option.value}`}
            type="radio"
            name={id}
            value={option.value}
            checked={option.value === value}
            disabled={option.disabled}
            onChange={() => onChange(option.value)}
            aria-describedby={option.hint ? `${id}-${option.value}-hint` : undefined}
          />
          <div>
            <label for={`${id}-${option.value}`}>{option.label}</label>
            {option.hint && (
              <div class={css.hint} id={`${id}-${option.value}-hint`}>
                {option.hint}
              </div>
            )}
          </div>
        </div>
      ))}
    </fieldset>
  );
}
