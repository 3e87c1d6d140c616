import { useEffect, useMemo, useState } from "preact/hooks";
import { integer, percent } from "../../format";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { Task } from "../../gen/protos/training/v1/training_pb";
import { isOver } from "../../states";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading, Note } from "../../ui/note";
import { useAsked, useEvery } from "../../ui/use";
import { occurring, RIGHT_PIXELS, SURE, verdict } from "./drawing";
import css from "./preview.module.css";
import { Large, ShotCard, type Shown } from "./preview-card";
import { Legend } from "./preview-picture";
import { ShareSlider, StepSlider } from "./preview-slider";
import { type Preview, PreviewSource } from "./preview-source";

const BEHIND_MS = 2000;

/** Ground truth beside prediction on some validation images, evaluation by evaluation. */
export default function EvaluationPreview({ job }: { job: Job }) {
  if (!job.spec?.advancedEvaluation?.enabled)
    return (
      <Card>
        <Empty title="This training has no evaluation preview">
          A preview shows some validation images after each evaluation, with what is in them beside what the model
          predicts. It is part of advanced evaluation, which multiplies the minutes by 1.5: switch it on in the Training
          Settings when you run the training again.
        </Empty>
      </Card>
    );
  if (job.evaluatedStep === 0n)
    return (
      <Card>
        <Empty title={isOver(job) ? "It ended before its first evaluation" : "No evaluation yet"}>
          {isOver(job)
            ? "There is nothing to preview."
            : job.state === JobState.QUEUED
              ? "The preview appears here after the first evaluation, once a runner takes the training."
              : "The preview appears here by itself after the first evaluation."}
        </Empty>
      </Card>
    );
  return <Previews key={job.jobId} job={job} />;
}

function Previews({ job }: { job: Job }) {
  const source = useMemo(() => new PreviewSource(job.jobId), [job.jobId]);
  useEffect(() => () => source.close(), [source]);
  const [chosen, setChosen] = useState<number>();
  // Told first by the event log: the evaluation itself may arrive a moment later, and is asked for until it is there.
  const newest = useAsked(async (signal) => source.at(0, signal), [source, job.evaluatedStep]);
  const picked = useAsked(
    async (signal) => (chosen === undefined ? undefined : source.at(chosen, signal)),
    [source, chosen],
  );
  const behind = newest.value !== undefined && newest.value.step < Number(job.evaluatedStep);
  useEvery(behind && !isOver(job) ? BEHIND_MS : 0, newest.reload, newest.loading);
  const shown = chosen === undefined ? newest.value : (picked.value ?? newest.value);
  const asked = chosen === undefined ? newest : picked;
  if (shown === undefined)
    return (
      <Card>
        {newest.problem ? (
          <Failed retry={newest.reload}>{newest.problem}</Failed>
        ) : (
          <Loading lines={8} what="Loading the preview" />
        )}
      </Card>
    );
  const steps = newest.value?.steps ?? shown.steps;
  return (
    <>
      <div class={css.bar}>
        <StepSlider
          steps={steps}
          step={chosen ?? shown.step}
          below={shown.step}
          failed={asked.problem !== "" && !asked.loading}
          following={chosen === undefined}
          onChoose={setChosen}
        />
      </div>
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      <Gallery preview={shown} task={job.spec?.architecture?.task ?? Task.UNSPECIFIED} busy={asked.loading} />
    </>
  );
}

const TOGGLES = [
  ["truth", "Ground truth"],
  ["prediction", "Predictions"],
  ["labels", "Labels"],
  ["confidences", "Confidences"],
  ["wrong", "Only wrong ones"],
] as const;

function Gallery({ preview, task, busy }: { preview: Preview; task: Task; busy: boolean }) {
  const [on, setOn] = useState({ truth: true, prediction: true, labels: true, confidences: true, wrong: false });
  const [sure, setSure] = useState(SURE);
  const [opacity, setOpacity] = useState(0.55);
  const [open, setOpen] = useState<number>();
  const { classes } = preview;
  const all = useMemo(
    () =>
      preview.shots.map((shot): Shown => ({ shot, verdict: verdict(shot.truth, shot.found, preview.classes, sure) })),
    [preview, sure],
  );
  const shown = on.wrong ? all.filter((one) => one.verdict?.right === false) : all;
  const wrong = all.filter((one) => one.verdict?.right === false).length;
  const look = { labels: on.labels, confidences: on.confidences, sure, opacity };
  const parts = { truth: on.truth, prediction: on.prediction };
  const toggles = TOGGLES.filter(
    ([name]) => task !== Task.SEGMENTATION || (name !== "labels" && name !== "confidences"),
  );
  const sides = shown.flatMap(({ shot }) => [
    on.truth ? shot.truth : undefined,
    on.prediction ? shot.found : undefined,
  ]);
  const large = shown.findIndex((one) => one.shot.number === open);
  if (all.length === 0)
    return <Note tone="warn">The images themselves did not arrive: the box had no room for them.</Note>;
  return (
    <>
      <div class={css.bar}>
        <fieldset class={css.toggles}>
          <legend class="visually-hidden">What is shown</legend>
          {toggles.map(([name, label]) => (
            <label key={name} class={css.toggle}>
              <input
                type="checkbox"
                checked={on[name]}
                onChange={(event) => setOn({ ...on, [name]: event.currentTarget.checked })}
              />
              {label}
            </label>
          ))}
        </fieldset>
        {task === Task.DETECTION && (
          <ShareSlider label="Confidence from" value={sure} onInput={setSure} words={percent(sure, 0)} />
        )}
        {task === Task.SEGMENTATION && (
          <ShareSlider label="Opacity" value={opacity} onInput={setOpacity} words={percent(opacity, 0)} />
        )}
        <span class="quiet" role="status">
          {wrong === 0 ? `All ${all.length} right` : `${integer(wrong)} of ${all.length} wrong`}
          {task === Task.SEGMENTATION && `, where right is from ${percent(RIGHT_PIXELS, 0)} of the pixels on`}
        </span>
      </div>
      {task !== Task.CLASSIFICATION && on.labels && <Legend indices={occurring(sides, sure)} classes={classes} />}
      {shown.length === 0 ? (
        <Card>
          <Empty title="None of them is wrong">Look at an earlier evaluation, or at all images.</Empty>
        </Card>
      ) : (
        <ul
          class={task === Task.CLASSIFICATION ? css.labelled : css.sides}
          aria-busy={busy}
          aria-label="Preview images"
        >
          {shown.map((one) => (
            <li key={one.shot.number}>
              <ShotCard of={one} classes={classes} look={look} parts={parts} onOpen={() => setOpen(one.shot.number)} />
            </li>
          ))}
        </ul>
      )}
      {large >= 0 && (
        <Large
          all={shown}
          at={large}
          classes={classes}
          look={look}
          step={preview.step}
          onGo={(index) => setOpen(shown[index]?.shot.number)}
          onClose={() => setOpen(undefined)}
        />
      )}
    </>
  );
}
