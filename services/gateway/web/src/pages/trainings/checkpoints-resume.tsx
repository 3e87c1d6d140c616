import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, jobs } from "../../api/clients";
import { integer } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { runnersByName } from "../../live/stores";
import { runnerState } from "../../states";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { CheckField, NumberField, SelectField, TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction, useRequestId } from "../../ui/use";
import css from "./checkpoints.module.css";
import { changed, numberProblem, obstacle, reached, type Typed, typed } from "./checkpoints-resume-form";

const ENDS: readonly (readonly [name: keyof Typed, label: string, hint?: string])[] = [
  ["epochs", "Epochs"],
  ["steps", "Steps"],
  ["minutes", "Minutes"],
  ["patience", "Early stopping patience", "Evaluations without improvement; empty: never."],
  ["retries", "Retries", "Where the box lets it down."],
];

/** Goes on from a checkpoint, as a new training with the same settings. */
export function Resume({ job, checkpoint, onClose }: { job: Job; checkpoint: string; onClose: () => void }) {
  const { route } = useLocation();
  const { busy, problem, run, clear } = useAction();
  const [from, setFrom] = useState(checkpoint);
  const chosen = job.checkpoints.find((one) => one.name === from);
  const [runnerId, setRunnerId] = useState(chosen?.runnerId ?? "");
  const [queue, setQueue] = useState(false);
  const [limits, setLimits] = useState(() => typed(job.spec?.limits));
  const [name, setName] = useState(job.name);
  const boxes = runnersByName.value.filter((runner) => !runner.uninstalled);
  const box = boxes.find((one) => one.runnerId === runnerId);
  const wrong =
    runnerId === ""
      ? chosen?.artifactId === ""
        ? "The platform has not got this checkpoint: choose the box that has it."
        : ""
      : box === undefined
        ? "The box that has this checkpoint is not there any more; choose another one."
        : obstacle(box, chosen, queue) && `${box.name} ${obstacle(box, chosen, queue)}.`;
  const problems = ENDS.map(([field]) => numberProblem(limits[field]));
  const noEnd = !limits.epochs && !limits.steps && !limits.minutes;
  const done = reached(limits, chosen);
  // What is pressed twice starts one training.
  const content = { jobId: job.jobId, checkpoint: from, name: name.trim(), runnerId, queue };
  const requestId = useRequestId(JSON.stringify({ ...content, limits }));
  const submit = async () => {
    if (wrong || noEnd || problems.some(Boolean)) return;
    await run(async () => {
      const asked = { requestId, ...content, limits: changed(limits, job.spec?.limits) };
      const answer = await jobs.resumeJob(asked, call());
      onClose();
      say(`It goes on from step ${integer(chosen?.step ?? 0n)}.`);
      if (answer.job) route(`/trainings/${answer.job.jobId}`);
    });
  };
  const choose = (change: () => void) => {
    clear();
    change();
  };
  return (
    <Dialog
      title={`Go on with ${job.name}`}
      width={640}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="run" submit busy={busy} disabled={wrong !== "" || noEnd || problems.some(Boolean)}>
            Resume training
          </Button>
        </>
      }
    >
      <p>
        A new training with the same settings goes on from the checkpoint: weights, optimiser, step and randomness. What
        the earlier one has trained is not charged again.
      </p>
      <SelectField
        label="Checkpoint"
        value={from}
        onChange={(value) => choose(() => setFrom(value))}
        options={[...job.checkpoints].reverse().map((one) => ({
          value: one.name,
          label: `step ${integer(one.step)}, epoch ${one.epoch}${one.best ? " ★ best" : ""}`,
        }))}
      />
      <SelectField
        label="Runner"
        value={runnerId}
        onChange={(value) => choose(() => setRunnerId(value))}
        problem={wrong}
        options={[
          {
            value: "",
            label: "Any that matches",
            disabled: chosen?.artifactId === "",
          },
          ...(box === undefined && runnerId !== ""
            ? [{ value: runnerId, label: "a box that is gone", disabled: true }]
            : []),
          ...boxes.map((one) => {
            const against = obstacle(one, chosen, queue);
            const has = one.runnerId === chosen?.runnerId ? " · has the checkpoint" : "";
            return {
              value: one.runnerId,
              label: `${one.name} · ${runnerState(one).label}${has}${against.startsWith("cannot") ? ` · ${against}` : ""}`,
              disabled: against !== "",
            };
          }),
        ]}
      />
      <CheckField
        checked={queue}
        onChange={(value) => choose(() => setQueue(value))}
        hint="First in, first out, up to 24 hours; it costs nothing until it trains."
      >
        Wait in the queue where the runner is not free
      </CheckField>
      <fieldset class={css.limits}>
        <legend>Limits</legend>
        <p class="quiet">
          They count from the first step of the earlier training
          {job.steps > 0n && `, which made ${integer(job.steps)} steps in ${integer(job.epochs)} epochs`}.
        </p>
        <div class={css.fields}>
          {ENDS.map(([field, label, hint], n) => (
            <NumberField
              key={field}
              label={label}
              hint={hint}
              min={0}
              value={limits[field]}
              onInput={(value) => choose(() => setLimits({ ...limits, [field]: value }))}
              placeholder="none"
              problem={problems[n]}
            />
          ))}
        </div>
        {noEnd && <Note tone="warn">Give at least one of epochs, steps and minutes.</Note>}
        {!noEnd && done && <Note tone="warn">{done}</Note>}
      </fieldset>
      <TextField label="Name" value={name} onInput={(value) => choose(() => setName(value))} />
      {problem && (
        // A long form may have its end out of sight, where the sentence stands.
        <div ref={(element) => element?.scrollIntoView({ block: "nearest" })}>
          <Note tone="bad">{problem}</Note>
        </div>
      )}
    </Dialog>
  );
}
