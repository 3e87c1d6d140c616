import { useEffect, useId, useRef, useState } from "preact/hooks";
import { rate } from "../../format";
import { RunnerStatus } from "../../gen/protos/events/v1/runner_pb";
import { runners } from "../../live/stores";
import { Simulated } from "../../ui/note";
import { RunnerState } from "../runners/state";
import { chosenOf, filtered, nextEnabled, optionsOf, type RunnerOption } from "./choice";
import { type Candidate, hardware } from "./fit";
import css from "./run.module.css";
import type { Where } from "./settings";

interface Props {
  value: Where;
  candidates: readonly Candidate[];
  /** The chosen one cannot be used: its sentence. */
  problem: string;
  onChange: (where: Where) => void;
}

/** As many as anyone scrolls through; the others are found by typing. */
const MOST = 100;

/** A drop-down of runners: arrows move, letters narrow it down, Enter chooses, Escape closes. */
export function RunnerChoice({ value, candidates, problem, onChange }: Props) {
  const id = useId();
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState("");
  const [active, setActive] = useState<Where>("");
  const root = useRef<HTMLDivElement>(null);
  const fitting = open ? filtered(optionsOf(candidates), typed) : [];
  const any = fitting.at(-1);
  // The last one is any that matches, which is never left out.
  const shown = fitting.length > MOST && any ? [...fitting.slice(0, MOST), any] : fitting;
  const at = shown.findIndex((option) => option.value === active && !option.disabled);
  const activeAt = at >= 0 ? at : nextEnabled(shown, -1, 1);
  useEffect(() => {
    if (!open) return;
    const outside = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: when another one becomes the active one
  useEffect(() => {
    if (open) root.current?.querySelector('[data-active="true"]')?.scrollIntoView?.({ block: "nearest" });
  }, [open, activeAt]);
  const show = () => {
    setTyped("");
    setActive(value);
    setOpen(true);
  };
  const choose = (option: RunnerOption | undefined) => {
    if (option === undefined || option.disabled) return;
    onChange(option.value);
    setOpen(false);
  };
  const press = (event: KeyboardEvent) => {
    const { key } = event;
    const go = (index: number) => setActive(shown[index]?.value ?? "");
    if (!open) {
      if (["ArrowDown", "ArrowUp", "Enter", " "].includes(key)) show();
      else return;
    } else if (key === "ArrowDown") go(nextEnabled(shown, activeAt, 1));
    else if (key === "ArrowUp") go(nextEnabled(shown, activeAt, -1));
    else if (key === "Home") go(nextEnabled(shown, -1, 1));
    else if (key === "End") go(nextEnabled(shown, shown.length, -1));
    else if (key === "Enter" || (key === " " && typed === "")) choose(shown[activeAt]);
    else if (key === "Escape") typed ? setTyped("") : setOpen(false);
    else if (key === "Backspace") setTyped(typed.slice(0, -1));
    else if (key === "Tab") return setOpen(false);
    else if (key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) setTyped(typed + key);
    else return;
    event.preventDefault();
    // Escape closes the list, and not the dialog around it.
    event.stopPropagation();
  };
  const chosen = chosenOf(value, candidates);
  return (
    <div class={css.choice} ref={root}>
      <span class={css.label} id={`${id}-label`}>
        Runner
      </span>
      <button
        type="button"
        role="combobox"
        class={css.chosen}
        id={`${id}-button`}
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-controls={`${id}-list`}
        aria-labelledby={`${id}-label ${id}-button`}
        aria-describedby={problem ? `${id}-problem` : undefined}
        aria-invalid={problem ? true : undefined}
        aria-activedescendant={open && activeAt >= 0 ? `${id}-${activeAt}` : undefined}
        onClick={() => (open ? setOpen(false) : show())}
        onKeyDown={press}
      >
        <span class={css.chosenText}>
          {value === "any" ? (
            <strong>Any that matches, when one becomes available</strong>
          ) : chosen ? (
            <Line candidate={chosen} queue={value.startsWith("queue:")} />
          ) : (
            <span class="quiet">{unchosen(value)}</span>
          )}
        </span>
        <span aria-hidden="true">▾</span>
      </button>
      {problem && (
        <span class={css.problem} id={`${id}-problem`} role="alert">
          {problem}
        </span>
      )}
      {open && (
        <div class={css.popup}>
          {typed && (
            <p class={css.typed} role="status">
              Only those with “{typed}”
            </p>
          )}
          <div class={css.list} role="listbox" id={`${id}-list`} aria-label="Runners" tabIndex={-1}>
            {shown.map((option, index) => (
              <div
                key={option.value}
                id={`${id}-${index}`}
                role="option"
                class={`${css.option} ${option.kind === "queue" ? css.queueOption : ""}`}
                data-active={index === activeAt}
                aria-selected={option.value === value}
                aria-disabled={option.disabled || undefined}
                onClick={() => choose(option)}
              >
                <Option option={option} />
              </div>
            ))}
          </div>
          {fitting.length > shown.length && (
            <p class={css.typed}>{fitting.length - shown.length} more: type a part of a name, GPU or status.</p>
          )}
        </div>
      )}
    </div>
  );
}

function Option({ option }: { option: RunnerOption }) {
  const { candidate } = option;
  if (candidate === undefined) return <strong>Any that matches, when one becomes available</strong>;
  if (option.kind === "queue")
    return (
      <span>
        <span aria-hidden="true">↳ </span>
        Queue for {candidate.runner.name}: starts when it {until(candidate)}
      </span>
    );
  return (
    <>
      <Line candidate={candidate} />
      {candidate.why && <span class={css.why}>{candidate.why}</span>}
      {candidate.warnings.map((warning) => (
        <span key={warning} class={css.warning}>
          <span aria-hidden="true">⚠ </span>
          {warning}
        </span>
      ))}
    </>
  );
}

function unchosen(value: Where): string {
  if (runners.value === undefined) return "Looking for the runners…";
  return value === "" ? "Choose a runner" : "The chosen runner is gone";
}

/** What has to come about before a queued training starts there. */
function until({ runner }: Candidate): string {
  if (runner.status === RunnerStatus.OFFLINE) return "connects";
  return runner.status === RunnerStatus.SUSPENDED ? "is resumed" : "is free";
}

/** A runner: status and name, and below them its GPUs, VRAM, and what a minute on it costs. */
function Line({ candidate: { runner }, queue }: { candidate: Candidate; queue?: boolean }) {
  return (
    <span class={css.line}>
      <span class={css.lineHead}>
        <RunnerState runner={runner} />
        <strong class="break">
          {queue && "Queue for "}
          {runner.name}
        </strong>
        {runner.inventory?.simulated && <Simulated />}
      </span>
      <span class={css.lineFacts}>
        {hardware(runner)}
        {runner.rateMicros > 0n && ` · ${rate(runner.rateMicros)}`}
      </span>
    </span>
  );
}
