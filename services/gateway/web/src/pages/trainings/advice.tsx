import { call, evaluations } from "../../api/clients";
import { capitalized, integer, measured, words } from "../../format";
import { type Evidence, type Recommendation, RecommendationKind } from "../../gen/protos/metrics/v1/evaluation_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";
import { Card, right, Table } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import css from "./advice.module.css";

/** What could go better, each with the numbers that it follows from. */
export default function Recommendations({ job }: { job: Job }) {
  if (!job.spec?.advancedEvaluation?.enabled)
    return (
      <Card>
        <Empty title="This training has no recommendations">
          Recommendations say what could go better and why: overfitting, a learning rate that is too high, a GPU that
          waits for data. They are part of advanced evaluation, which multiplies the minutes by 1.5: switch it on in the
          Training Settings when you run the training again.
        </Empty>
      </Card>
    );
  return <Advice key={job.jobId} job={job} />;
}

function Advice({ job }: { job: Job }) {
  const { jobId } = job;
  const asked = useAsked(
    (signal) => evaluations.listRecommendations({ jobId }, call(signal)),
    [jobId, job.evaluatedStep, job.state],
  );
  const found = asked.value?.recommendations;
  return (
    <div class={css.list}>
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      {found === undefined
        ? !asked.problem && (
            <Card>
              <Loading what="Loading the recommendations" />
            </Card>
          )
        : found.map((one, n) => <One key={`${one.kind} ${n}`} of={one} first={n === 0 && found.length > 1} />)}
      {found?.length === 0 && (
        <Card>
          <Empty title={isOver(job) ? "✔ Nothing was found wrong" : "✔ Nothing was found wrong so far"}>
            {job.evaluatedStep === 0n
              ? "Recommendations follow from evaluations; there is none yet."
              : isOver(job)
                ? "Losses, metrics, classes and the box's GPUs gave no reason for advice."
                : "Losses, metrics, classes and the box's GPUs are looked at with each evaluation."}
          </Empty>
        </Card>
      )}
    </div>
  );
}

function One({ of, first }: { of: Recommendation; first: boolean }) {
  const kind = words(RecommendationKind, of.kind);
  return (
    <Card
      title={capitalized(kind.replace(" gpu", " GPU").replace("vram", "VRAM"))}
      actions={first && <span class="quiet">most pressing</span>}
    >
      <dl class={css.said}>
        <dt>What was seen</dt>
        <dd>{of.finding}</dd>
        <dt>What to do</dt>
        <dd>
          <strong>{of.advice}</strong>
        </dd>
      </dl>
      {of.evidence.length > 0 && (
        <div class={css.evidence}>
          <Table
            label={`Evidence of ${kind}`}
            head={
              <>
                <th scope="col">Follows from</th>
                <th scope="col" class={right}>
                  Value
                </th>
                <th scope="col" class={right}>
                  Held against
                </th>
                <th scope="col" class={right}>
                  Step
                </th>
              </>
            }
          >
            {of.evidence.map((one, n) => (
              <EvidenceRow key={`${one.name} ${n}`} of={one} />
            ))}
          </Table>
        </div>
      )}
    </Card>
  );
}

function EvidenceRow({ of }: { of: Evidence }) {
  return (
    <tr>
      <td class="break">{of.name}</td>
      <td class={right}>{measured(of.name, of.value)}</td>
      <td class={right}>{of.threshold ? measured(of.name, of.threshold) : "–"}</td>
      <td class={right}>{of.step > 0n ? integer(of.step) : "–"}</td>
    </tr>
  );
}
