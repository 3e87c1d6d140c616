import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, jobs } from "../../api/clients";
import { refusedField } from "../../api/details";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import type { Architecture, TrainingSpec } from "../../gen/protos/training/v1/training_pb";
import { runners, runnersByName } from "../../live/stores";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction, useRequestId } from "../../ui/use";
import { whereProblem } from "./choice";
import { candidates, cheapest } from "./fit";
import { Hardware } from "./hardware";
import css from "./run.module.css";
import { Checkpoints, Evaluation, Limits } from "./sections";
import { problemsOf, type RunForm, recalled, remembered, requestOf, settingsOf } from "./settings";

interface Props {
  saved: SavedWorkflow;
  architecture: Architecture | undefined;
  /** What advanced evaluation multiplies the minutes by, millionths. */
  advancedMicros: bigint;
  like: TrainingSpec | undefined;
  /** A choice of another workflow, where there is one. */
  picker: ComponentChildren;
  onClose: () => void;
}

export function TrainingSettings({ saved, architecture, advancedMicros, like, picker, onClose }: Props) {
  const { route } = useLocation();
  const { workflowId = "", name = "", revision = 0, architectureId = "" } = saved.workflow ?? {};
  const key = `tether.run.${workflowId}`;
  const [form, setForm] = useState<RunForm>(() => (like ? settingsOf(like) : recalled(localStorage.getItem(key))));
  const [attempted, setAttempted] = useState(false);
  const [refused, setRefused] = useState<{ field: string; problem: string }>();
  const { busy, problem, run, clear } = useAction();
  const underway = useRef(false);
  const requestId = useRequestId(JSON.stringify([form, workflowId, revision]));
  const known = runnersByName.value;
  // Not at every letter: there may be a thousand runners.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the value of a signal is another one when it changes
  const found = useMemo(() => candidates(known, architecture), [known, architecture]);
  useFirstChoice(form, setForm, runners.value, cheapest(found)?.runnerId);
  const notThere = runners.value === undefined ? "" : whereProblem(form.where, found);
  const wrong = problemsOf(form);
  const problems = refused ? { ...wrong, [refused.field]: refused.problem } : wrong;
  const change = (part: Partial<RunForm>) => {
    setForm({ ...form, ...part });
    setRefused(undefined);
    clear();
  };
  const submit = async () => {
    setAttempted(true);
    if (underway.current || notThere || runners.value === undefined || Object.keys(wrong).length > 0) return;
    underway.current = true;
    setRefused(undefined);
    await run(async () => {
      try {
        const { job } = await jobs.submitJob(requestOf(form, workflowId, requestId), call());
        localStorage.setItem(key, remembered(form));
        say(`${job?.name ?? "The training"} is submitted.`);
        onClose();
        route(`/trainings/${job?.jobId ?? ""}`);
      } catch (error) {
        setRefused(refusedField(error));
        throw error;
      }
    });
    underway.current = false;
  };
  return (
    <Dialog
      title="Training Settings"
      width={1080}
      onClose={onClose}
      actions={
        <>
          {(problem || (attempted && Object.keys(wrong).length > 0)) && (
            <div class={css.footNote}>
              <Note tone="bad">{problem || "Mend what is marked in red first."}</Note>
            </div>
          )}
          <Button onClick={onClose}>Cancel</Button>
          {/* No submit button: Enter in a field must not start what costs minutes. */}
          <Button
            kind="run"
            busy={busy}
            disabled={(notThere !== "" && form.where !== "") || runners.value === undefined}
            onClick={() => void submit()}
          >
            {form.where.startsWith("runner:") || form.where === "" ? "Run Training" : "Queue Training"}
          </Button>
        </>
      }
    >
      {picker}
      <div class={css.columns}>
        <div>
          <strong class="break">{name}</strong>
          <p class="quiet">
            revision {revision}: {architectureId} on {saved.datasetName}
          </p>
        </div>
        <TextField
          label="Name of the training"
          value={form.name}
          placeholder={name}
          problem={problems.name}
          onInput={(value) => change({ name: value })}
        />
      </div>
      <div class={css.columns}>
        <div class={css.column}>
          <Checkpoints form={form} problems={problems} onChange={change} />
          <Evaluation form={form} advancedMicros={advancedMicros} onChange={change} />
        </div>
        <div class={css.column}>
          <Hardware
            form={form}
            candidates={found}
            problem={form.where === "" && !attempted ? "" : notThere}
            labelsProblem={problems.labels ?? ""}
            advancedMicros={advancedMicros}
            onChange={change}
          />
          <Limits form={form} problems={problems} architecture={architecture} onChange={change} />
        </div>
      </div>
    </Dialog>
  );
}

/** Chooses once, when the runners are known and nothing usable was remembered; later choices are the person's own. */
function useFirstChoice(
  form: RunForm,
  setForm: (form: RunForm) => void,
  known: ReadonlyMap<string, Runner> | undefined,
  runnerId: string | undefined,
): void {
  const settled = useRef(false);
  // Before the person sees it: later it could undo what he has just pressed.
  useLayoutEffect(() => {
    if (settled.current || known === undefined) return;
    settled.current = true;
    const id = form.where.split(":")[1];
    if (form.where !== "" && (id === undefined || known.has(id))) return;
    setForm({ ...form, where: runnerId === undefined ? "" : `runner:${runnerId}` });
  }, [known, runnerId, form, setForm]);
}
