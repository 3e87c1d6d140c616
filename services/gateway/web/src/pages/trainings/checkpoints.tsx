import { useState } from "preact/hooks";
import { artifacts as api, call } from "../../api/clients";
import { mayWrite } from "../../api/session";
import { byImportance, integer, metric, metricName, moment, size, words } from "../../format";
import { type Artifact, ArtifactKind, ArtifactState } from "../../gen/protos/metrics/v1/artifact_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import type { Checkpoint } from "../../gen/protos/training/v1/training_pb";
import { runners } from "../../live/stores";
import { isOver } from "../../states";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { Card, right, Table } from "../../ui/layout";
import { Badge, Empty, Failed, Loading } from "../../ui/note";
import { useAsked, useEvery } from "../../ui/use";
import css from "./checkpoints.module.css";
import { Download } from "./checkpoints-download";
import { Export } from "./checkpoints-export";
import { Resume } from "./checkpoints-resume";

// While a box makes or sends something.
const LOOK_MS = 2000;
const FIRST_ROWS = 50;

/** What a training has saved, and what was made of it: download, export, go on from. */
export default function Checkpoints({ job }: { job: Job }) {
  const { jobId } = job;
  const asked = useAsked((signal) => api.listArtifacts({ jobId }, call(signal)), [jobId, job.version]);
  const all = asked.value?.artifacts;
  const pending = all?.some((one) => one.state === ArtifactState.PENDING) ?? false;
  const { reload } = asked;
  useEvery(pending ? LOOK_MS : 0, reload, asked.loading);
  const [resuming, setResuming] = useState<string>();
  const [most, setMost] = useState(FIRST_ROWS);
  const [exporting, setExporting] = useState<Checkpoint>();
  const exports = all?.filter((one) => one.kind !== ArtifactKind.CHECKPOINT) ?? [];
  return (
    <div class={css.page}>
      {asked.problem && <Failed retry={reload}>{asked.problem}</Failed>}
      <Card title="Checkpoints" flush>
        {job.checkpoints.length === 0 ? (
          <Empty title={isOver(job) ? "It has saved no checkpoint" : "No checkpoint yet"}>
            {isOver(job)
              ? "It ended before its first evaluation, after which one is saved."
              : "One is saved after an evaluation, as the checkpoint strategy has it."}
          </Empty>
        ) : (
          <Table label="Checkpoints" head={<Heads names={["Step", "Epoch", "Metrics", "Size", "Lies on", ""]} />}>
            {[...job.checkpoints]
              .reverse()
              .slice(0, most)
              .map((one) => (
                <Row
                  key={one.name}
                  job={job}
                  of={one}
                  artifact={all?.find((file) => file.artifactId === one.artifactId || isFileOf(file, one))}
                  onExport={() => setExporting(one)}
                  onResume={() => setResuming(one.name)}
                />
              ))}
          </Table>
        )}
        {job.checkpoints.length > most && (
          <div class={css.more}>
            <Button small onClick={() => setMost(most + 10 * FIRST_ROWS)}>
              Show more ({integer(job.checkpoints.length - most)} left)
            </Button>
          </div>
        )}
      </Card>
      <Card title="Exports" flush>
        {all === undefined ? (
          !asked.problem && <Loading lines={2} what="Loading the exports" />
        ) : exports.length === 0 ? (
          <Empty title="Nothing was exported yet">
            {mayWrite.value && job.checkpoints.length > 0
              ? "Export a checkpoint as ONNX or as weights alone: a box makes the file, and it can be downloaded here."
              : "A checkpoint can be exported as ONNX or as weights alone, for use elsewhere."}
          </Empty>
        ) : (
          <Table label="Exports" head={<Heads names={["File", "Of step", "State", "Size", ""]} />}>
            {exports.map((one) => (
              <ExportRow key={one.artifactId} of={one} />
            ))}
          </Table>
        )}
      </Card>
      {exporting !== undefined && (
        <Export job={job} checkpoint={exporting} onAsked={reload} onClose={() => setExporting(undefined)} />
      )}
      {resuming !== undefined && <Resume job={job} checkpoint={resuming} onClose={() => setResuming(undefined)} />}
    </div>
  );
}

const NUMBERS = ["Step", "Epoch", "Size", "Of step"];

function Heads({ names }: { names: readonly string[] }) {
  return (
    <>
      {names.map((name) =>
        name === "" ? (
          <td key={name} />
        ) : (
          <th key={name} scope="col" class={NUMBERS.includes(name) ? right : undefined}>
            {name}
          </th>
        ),
      )}
    </>
  );
}

interface RowProps {
  job: Job;
  of: Checkpoint;
  artifact: Artifact | undefined;
  onExport: () => void;
  onResume: () => void;
}

function Row({ job, of, artifact, onExport, onResume }: RowProps) {
  const ready = artifact?.state === ArtifactState.READY;
  return (
    <tr>
      <td class={right}>
        <strong>{integer(of.step)}</strong>
      </td>
      <td class={right}>{integer(of.epoch)}</td>
      <td class={css.file}>
        {metricsWords(of.metrics)}{" "}
        {of.best && (
          <Badge tone="good">
            <span aria-hidden="true">★</span> best
          </Badge>
        )}
      </td>
      <td class={right}>{size(of.bytes)}</td>
      <td>
        {boxOf(job, of)}
        {ready || of.artifactId ? ", platform" : <span class="quiet"> only</span>}
      </td>
      <td>
        <div class={css.actions}>
          {ready && artifact && <Download artifact={artifact} />}
          {mayWrite.value && isOver(job) && (
            <Button small onClick={onResume}>
              Resume from
              <span class="visually-hidden"> step {integer(of.step)}</span>
            </Button>
          )}
          {mayWrite.value && (
            <Button small onClick={onExport}>
              Export…
              <span class="visually-hidden"> step {integer(of.step)}</span>
            </Button>
          )}
        </div>
      </td>
    </tr>
  );
}

function ExportRow({ of }: { of: Artifact }) {
  return (
    <tr>
      <td class={css.file}>
        <strong>{of.name}</strong>
        <div class="quiet" title={moment(Number(of.createdAtMs))}>
          {words(ArtifactKind, of.kind).replace("onnx", "ONNX")}, asked for <Ago ms={Number(of.createdAtMs)} />
        </div>
      </td>
      <td class={right}>{integer(of.step)}</td>
      <td class={css.file}>
        {of.state === ArtifactState.PENDING && (
          <span role="status">
            <Badge tone="busy">
              <span aria-hidden="true">◔</span> pending
            </Badge>{" "}
            {of.message}
          </span>
        )}
        {of.state === ArtifactState.READY && (
          <Badge tone="good">
            <span aria-hidden="true">✔</span> ready
          </Badge>
        )}
        {of.state === ArtifactState.FAILED && (
          <>
            <Badge tone="bad">
              <span aria-hidden="true">✘</span> failed
            </Badge>{" "}
            {of.message}
          </>
        )}
      </td>
      <td class={right}>{of.bytes > 0n ? size(of.bytes) : "–"}</td>
      <td>
        <div class={css.actions}>{of.state === ArtifactState.READY && <Download artifact={of} />}</div>
      </td>
    </tr>
  );
}

/** `accuracy 0.9861, loss 0.0602`: the task's own metric first; the rest is on the metrics tab. */
function metricsWords(metrics: Readonly<Record<string, number>>): string {
  const names = byImportance(Object.keys(metrics));
  const shown = [names[0], names.find((name) => name.endsWith("loss") && name !== names[0])];
  return shown
    .filter((name) => name !== undefined)
    .map((name) => `${metricName(name)} ${metric(metrics[name] ?? Number.NaN)}`)
    .join(", ");
}

/** Whether this is the file of a checkpoint that the job has not been told of yet. */
function isFileOf(file: Artifact, checkpoint: Checkpoint): boolean {
  return (
    file.kind === ArtifactKind.CHECKPOINT && file.name === checkpoint.name && file.attemptId === checkpoint.attemptId
  );
}

/** The name of the box that a checkpoint lies on. */
function boxOf(job: Job, checkpoint: Checkpoint): string {
  if (checkpoint.attemptId === job.attemptId) return job.runnerName;
  const earlier = job.earlierAttempts.find((one) => one.attemptId === checkpoint.attemptId);
  return earlier?.runnerName ?? runners.value?.get(checkpoint.runnerId)?.name ?? checkpoint.runnerId;
}
