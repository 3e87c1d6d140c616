import { useId } from "preact/hooks";
import { integer } from "../../format";
import { Button } from "../../ui/button";
import css from "./preview.module.css";

interface SliderProps {
  /** Ascending. */
  steps: readonly number[];
  step: number;
  /** The step of what stands below: another one until what was chosen has come. */
  below: number;
  /** It will not come by itself. */
  failed: boolean;
  /** Undefined: the newest, and those that are yet to come. */
  onChoose: (step: number | undefined) => void;
  /** Whether the newest is followed. */
  following: boolean;
}

/** Chooses one of the evaluations of a training: by dragging, by arrow keys, one by one. */
export function StepSlider({ steps, step, below, failed, onChoose, following }: SliderProps) {
  const id = useId();
  const last = steps.length - 1;
  const at = Math.max(steps.indexOf(step), 0);
  const go = (index: number) => {
    const chosen = steps[Math.min(Math.max(index, 0), last)];
    if (chosen !== undefined) onChoose(index >= last ? undefined : chosen);
  };
  const other = below !== step && (failed ? `not loaded, step ${integer(below)} is shown` : "loading");
  return (
    <div class={css.slider}>
      <label for={id}>Evaluation</label>
      <Button small label="Earlier evaluation" disabled={at <= 0} onClick={() => go(at - 1)}>
        <span aria-hidden="true">‹</span>
      </Button>
      <input
        id={id}
        type="range"
        min={0}
        max={Math.max(last, 0)}
        step={1}
        value={at}
        disabled={last <= 0}
        aria-valuetext={`step ${integer(step)}, ${at + 1} of ${steps.length}${other ? `, ${other}` : ""}`}
        onInput={(event) => go(Number(event.currentTarget.value))}
      />
      <Button small label="Later evaluation" disabled={at >= last} onClick={() => go(at + 1)}>
        <span aria-hidden="true">›</span>
      </Button>
      <output for={id} class="number">
        <strong>step {integer(step)}</strong>{" "}
        <span class="quiet">
          {at + 1} of {steps.length}
          {following && at === last && last > 0 && " · the newest"}
          {other && ` · ${other}`}
        </span>
      </output>
    </div>
  );
}

interface RangeProps {
  label: string;
  value: number;
  onInput: (value: number) => void;
  /** The value as people read it. */
  words: string;
}

/** A share of one, from 0 to 1. */
export function ShareSlider({ label, value, onInput, words }: RangeProps) {
  const id = useId();
  return (
    <div class={css.share}>
      <label for={id}>{label}</label>
      <input
        id={id}
        type="range"
        min={0}
        max={1}
        step={0.05}
        value={value}
        aria-valuetext={words}
        onInput={(event) => onInput(Number(event.currentTarget.value))}
      />
      <output for={id} class="number">
        {words}
      </output>
    </div>
  );
}
