import { call, quota } from "../../api/clients";
import { duration, factor, minutes, rate } from "../../format";
import { runners } from "../../live/stores";
import { Button, ButtonLink } from "../../ui/button";
import { TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { able, chosenOf } from "./choice";
import { costMilliminutes, lastsMs, minuteMicros, rateRange } from "./cost";
import { type Candidate, hasLabels, labelsOf } from "./fit";
import { numberOf } from "./numbers";
import css from "./run.module.css";
import { RunnerChoice } from "./runner-choice";
import type { RunForm } from "./settings";

interface Props {
  form: RunForm;
  candidates: readonly Candidate[];
  /** What is wrong with the chosen runner, as it is now. */
  problem: string;
  labelsProblem: string;
  advancedMicros: bigint;
  onChange: (part: Partial<RunForm>) => void;
}

/** Where it runs, and what a minute there costs. */
export function Hardware({ form, candidates, problem, labelsProblem, advancedMicros, onChange }: Props) {
  const chosen = chosenOf(form.where, candidates);
  const online = candidates.some((one) => one.standing === "free");
  const busyChoice = form.where.startsWith("runner:") && chosen?.standing === "queue";
  return (
    <section class={css.section} aria-labelledby="run-hardware">
      <h3 id="run-hardware">Hardware Acceleration</h3>
      {runners.value !== undefined && !online && (
        <Note tone="warn">
          <p>
            {candidates.length === 0
              ? "There is no runner yet. Connect one, or queue the training: it starts when one is there, within 24 hours."
              : "No runner is ONLINE that fits. Queue the training: it starts as soon as one is free, within 24 hours."}
          </p>
          {form.where !== "any" && (
            <div class={css.inNote}>
              <Button small onClick={() => onChange({ where: "any" })}>
                Queue for any that matches
              </Button>
              {candidates.length === 0 && (
                <ButtonLink small href="/runners">
                  Runners
                </ButtonLink>
              )}
            </div>
          )}
        </Note>
      )}
      <RunnerChoice
        value={form.where}
        candidates={candidates}
        problem={problem}
        onChange={(where) => onChange({ where })}
      />
      {busyChoice && chosen && (
        <div>
          <Button small onClick={() => onChange({ where: `queue:${chosen.runner.runnerId}` })}>
            Queue for {chosen.runner.name} instead
          </Button>
        </div>
      )}
      {form.where === "any" && (
        <TextField
          label="Only runners with these labels"
          hint="For example room=2, gpu=a100; empty: whichever fits."
          value={form.labels}
          problem={labelsProblem}
          onInput={(labels) => onChange({ labels })}
        />
      )}
      {chosen?.standing !== "never" &&
        chosen?.warnings.map((warning) => (
          <Note tone="warn" key={warning}>
            {warning}
          </Note>
        ))}
      <Cost form={form} candidates={candidates} advancedMicros={advancedMicros} />
    </section>
  );
}

type CostProps = Pick<Props, "form" | "candidates" | "advancedMicros">;

function Cost({ form, candidates, advancedMicros }: CostProps) {
  const usage = useAsked((signal) => quota.getUsage({}, call(signal)), []).value;
  const left = usage?.quotaMilliminutes === undefined ? undefined : usage.quotaMilliminutes - usage.usedMilliminutes;
  if (form.where === "any") return <CostOfAny form={form} candidates={candidates} advancedMicros={advancedMicros} />;
  const runner = chosenOf(form.where, candidates)?.runner;
  if (runner === undefined) return null;
  if (runner.rateMicros === 0n) return <p class="quiet">What a minute costs is known once the box connects.</p>;
  const micros = minuteMicros(runner.rateMicros, form.advanced, advancedMicros);
  const limit = numberOf(form.minutes);
  const most = limit > 0 ? costMilliminutes(limit, micros) : undefined;
  const lasts = left === undefined ? undefined : lastsMs(left, micros);
  return (
    <div class={css.cost} role="status">
      <p>
        A training on {runner.name} costs <strong>{rate(micros)}</strong>
        {form.advanced && (
          <span class="quiet">
            {" "}
            ({factor(runner.rateMicros)} for its GPUs, {factor(advancedMicros)} for advanced evaluation)
          </span>
        )}
        {most !== undefined && <>, at most {minutes(most)} in all</>}.
      </p>
      {left !== undefined && lasts !== undefined && (
        <p class={most !== undefined && most > left ? css.scarce : "quiet"}>
          {most !== undefined && most > left && <span aria-hidden="true">⚠ </span>}
          {left > 0n ? minutes(left) : "None"} of the workspace's {minutes(usage?.quotaMilliminutes ?? 0n)} minutes{" "}
          {left > 0n ? `are left this month: enough for ${duration(lasts)} here.` : "is left this month."}
        </p>
      )}
    </div>
  );
}

function CostOfAny({ form, candidates, advancedMicros }: CostProps) {
  const labels = labelsOf(form.labels);
  // What is wrong with them is said at the field.
  if (labels === undefined) return null;
  const fitting = able(candidates).filter((runner) => hasLabels(runner, labels));
  const rates = fitting.map((runner) => minuteMicros(runner.rateMicros, form.advanced, advancedMicros));
  const range = rateRange(rates);
  if (range === undefined)
    return <Note tone="warn">No connected runner matches; it waits until one does, for 24 hours at most.</Note>;
  return (
    <p class={css.cost} role="status">
      {fitting.length === 1 ? "1 connected runner matches" : `${fitting.length} connected runners match`}; a training
      costs {range.low === range.high ? rate(range.low) : `${factor(range.low)} to ${factor(range.high)} the minutes`}.
    </p>
  );
}
