import { call, jobs } from "../../api/clients";
import { shortId } from "../../format";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { type Architecture, WeightsSource } from "../../gen/protos/training/v1/training_pb";
import { RadioField, SelectField, TextField } from "../../ui/fields";
import { Failed, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import type { Problems } from "../run/numbers";
import type { WorkflowForm } from "./form";
import css from "./workflows.module.css";

type Weights = WorkflowForm["weights"];

interface Props {
  weights: Weights;
  architecture: Architecture | undefined;
  problems: Problems;
  onChange: (weights: Weights) => void;
}

/** What the model begins with. */
export function InitialWeights({ weights, architecture, problems, onChange }: Props) {
  const published = architecture?.pretrained;
  return (
    <div class={css.stack}>
      <RadioField
        label="The model begins with"
        value={String(weights.source)}
        onChange={(source) => onChange({ ...weights, source: Number(source) })}
        options={[
          {
            value: String(WeightsSource.UNSPECIFIED),
            label: "Pretrained weights if the box has them, otherwise random ones",
            hint: published === "" ? "None are published for this architecture: they will be random." : undefined,
          },
          {
            value: String(WeightsSource.PRETRAINED),
            label: "Pretrained weights, and nothing else",
            hint: "A box without them refuses the training.",
          },
          { value: String(WeightsSource.RANDOM), label: "Random weights" },
          {
            value: String(WeightsSource.CHECKPOINT),
            label: "A checkpoint of an earlier training",
            hint: "Its weights; the training itself begins anew.",
          },
        ]}
      />
      {weights.source === WeightsSource.PRETRAINED && (
        <TextField
          label="Name of the weights"
          hint="As the box knows them: tether-runner weights list. Empty: the architecture's."
          placeholder={published}
          value={weights.name}
          problem={problems["weights.name"] ?? problems["weights.source"]}
          onInput={(name) => onChange({ ...weights, name })}
        />
      )}
      {weights.source === WeightsSource.CHECKPOINT && (
        <Earlier weights={weights} architecture={architecture} problems={problems} onChange={onChange} />
      )}
    </div>
  );
}

/** How far back trainings are offered. */
const RECENT = 200;

function Earlier({ weights, architecture, problems, onChange }: Props) {
  const asked = useAsked(async (signal) => {
    const states = [JobState.FINISHED, JobState.FAILED, JobState.KILLED, JobState.RUNNING];
    return (await jobs.listJobs({ states, pageSize: RECENT }, call(signal))).jobs;
  }, []);
  if (asked.value === undefined)
    return asked.problem ? <Failed retry={asked.reload}>{asked.problem}</Failed> : <Loading lines={2} />;
  const family = architecture?.family;
  const fitting = asked.value.filter((job) => job.checkpoints.length > 0 && job.spec?.architecture?.family === family);
  const job = asked.value.find((one) => one.jobId === weights.jobId);
  const strange = weights.jobId !== "" && !fitting.some((one) => one.jobId === weights.jobId);
  const names = job?.checkpoints.map((one) => one.name) ?? [];
  const missing = weights.checkpoint !== "" && !names.includes(weights.checkpoint);
  return (
    <div class={css.fields}>
      <SelectField
        label="Training"
        hint={`Those with a checkpoint that fits ${architecture?.architectureId ?? "the architecture"}.`}
        problem={problems["weights.checkpoint"] ?? problems["weights.checkpoint.job_id"]}
        value={weights.jobId}
        options={[
          { value: "", label: fitting.length > 0 ? "Choose a training" : "There is none yet" },
          ...(strange ? [{ value: weights.jobId, label: job ? jobLabel(job) : weights.jobId }] : []),
          ...fitting.map((one) => ({ value: one.jobId, label: jobLabel(one) })),
        ]}
        onChange={(jobId) => onChange({ ...weights, jobId, checkpoint: "" })}
      />
      <SelectField
        label="Checkpoint"
        value={weights.checkpoint}
        problem={problems["weights.checkpoint.name"]}
        disabled={weights.jobId === ""}
        options={[
          { value: "", label: "The best, or else the newest" },
          ...(missing ? [{ value: weights.checkpoint, label: weights.checkpoint }] : []),
          ...(job?.checkpoints.map((one) => ({
            value: one.name,
            label: `step ${one.step}${one.best ? ", the best" : ""}`,
          })) ?? []),
        ]}
        onChange={(checkpoint) => onChange({ ...weights, checkpoint })}
      />
    </div>
  );
}

function jobLabel(job: Job): string {
  return `${job.name} · ${job.spec?.architecture?.architectureId ?? ""} · ${shortId(job.jobId)}`;
}
