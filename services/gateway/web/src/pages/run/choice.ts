// What the runner drop-down offers, and what is wrong with what is chosen in it. Pure.
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { runnerState } from "../../states";
import type { Candidate } from "./fit";
import type { Where } from "./settings";

export interface RunnerOption {
  readonly value: Where;
  readonly kind: "runner" | "queue" | "any";
  readonly candidate?: Candidate;
  readonly disabled: boolean;
  /** What is typed to find it. */
  readonly text: string;
}

/** Each runner; below one that is busy, a place in its queue; at the end, whichever fits. */
export function optionsOf(candidates: readonly Candidate[]): RunnerOption[] {
  const options: RunnerOption[] = [];
  for (const candidate of candidates) {
    const { runner, standing } = candidate;
    const text = `${runner.name} ${runner.inventory?.gpus[0]?.type ?? ""} ${runnerState(runner).label}`.toLowerCase();
    options.push({
      value: `runner:${runner.runnerId}`,
      kind: "runner",
      candidate,
      disabled: standing !== "free",
      text,
    });
    if (standing === "queue")
      options.push({
        value: `queue:${runner.runnerId}`,
        kind: "queue",
        candidate,
        disabled: false,
        text: `${text} queue`,
      });
  }
  return [...options, { value: "any", kind: "any", disabled: false, text: "any that matches" }];
}

/** Options that contain every word that was typed; any that matches always. */
export function filtered(options: readonly RunnerOption[], typed: string): RunnerOption[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return options.filter((option) => option.kind === "any" || words.every((word) => option.text.includes(word)));
}

/** The option after (1) or before (-1) another that can be chosen; the first or last where `from` is none of them. */
export function nextEnabled(options: readonly RunnerOption[], from: number, step: 1 | -1): number {
  for (let at = from + step; at >= 0 && at < options.length; at += step) if (!options[at]?.disabled) return at;
  return options[from] && !options[from].disabled ? from : options.findIndex((option) => !option.disabled);
}

/** The runner that is named by a choice; undefined for any, and for one that is gone. */
export function chosenOf(where: Where, candidates: readonly Candidate[]): Candidate | undefined {
  const id = where.split(":", 2)[1];
  return id === undefined ? undefined : candidates.find(({ runner }) => runner.runnerId === id);
}

/** Why the training cannot be submitted to what is chosen, as the runners are now; empty: it can. */
export function whereProblem(where: Where, candidates: readonly Candidate[]): string {
  if (where === "") return "Choose a runner, or any that matches.";
  if (where === "any") return "";
  const found = chosenOf(where, candidates);
  if (found === undefined) return "The chosen runner is not part of the platform any more; choose another one.";
  const { runner, standing, why } = found;
  if (standing === "never") return `${runner.name} is too small: ${why}.`;
  if (standing === "free" || where.startsWith("queue:")) return "";
  return `${runner.name} is ${runnerState(runner).label} now (${why}); choose another runner, or queue for it.`;
}

/** Runners that could take it now or later, of those that are connected. */
export function able(candidates: readonly Candidate[]): Runner[] {
  return candidates.filter(({ standing, runner }) => standing !== "never" && runner.connected).map((one) => one.runner);
}
