import { Code } from "@connectrpc/connect";
import { useMemo, useRef, useState } from "preact/hooks";
import { call, evaluations } from "../../api/clients";
import { hasCode } from "../../api/errors";
import { integer } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { Task } from "../../gen/protos/training/v1/training_pb";
import { isOver } from "../../states";
import { Button } from "../../ui/button";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { saveAs } from "../../ui/save";
import { useAsked } from "../../ui/use";
import css from "./matrix.module.css";
import { MatrixCanvas } from "./matrix-canvas";
import { MatrixGrid, Scale } from "./matrix-grid";
import { asCsv, cellWords, fromProto, type Matrix, withoutBackground } from "./matrix-math";
import { ClassScores, Confusions } from "./matrix-scores";
import { StepSlider } from "./preview-slider";

/** Above, cells are too many to be elements of the page, and are painted. */
const MOST_ELEMENTS = 60;
// Cells of all matrices that are kept while one looks at them.
const MOST_KEPT = 4_000_000;

/** What was taken for what, evaluation by evaluation. */
export default function ConfusionMatrix({ job }: { job: Job }) {
  const settings = job.spec?.advancedEvaluation;
  if (!settings?.confusionMatrix && !settings?.enabled)
    return (
      <Card>
        <NoMatrix />
      </Card>
    );
  if (job.evaluatedStep === 0n)
    return (
      <Card>
        <Empty title={isOver(job) ? "It ended before its first evaluation" : "No evaluation yet"}>
          {isOver(job)
            ? "There is no confusion matrix."
            : "The matrix appears here by itself after the first evaluation."}
        </Empty>
      </Card>
    );
  return <Matrices key={job.jobId} job={job} />;
}

function NoMatrix() {
  return (
    <Empty title="This training has no confusion matrix">
      It shows for each class what the model took it for. It costs nothing: switch it on under Advanced Evaluation in
      the Training Settings when you run the training again.
    </Empty>
  );
}

interface Found {
  readonly step: number;
  readonly matrix: Matrix;
}

function Matrices({ job }: { job: Job }) {
  const { jobId, evaluatedStep } = job;
  const [chosen, setChosen] = useState<number>();
  const kept = useRef(new Map<number, Matrix>());
  const list = useAsked((signal) => evaluations.listEvaluations({ jobId }, call(signal)), [jobId, evaluatedStep]);
  const asked = useAsked(
    (signal) => find(kept.current, jobId, chosen ?? 0, signal),
    // The newest changes with each evaluation, one that was chosen does not.
    [jobId, chosen, chosen === undefined ? evaluatedStep : 0n],
  );
  const shown = asked.value;
  if (shown === null)
    return (
      <Card>
        <NoMatrix />
      </Card>
    );
  if (shown === undefined)
    return (
      <Card>
        {asked.problem ? (
          <Failed retry={asked.reload}>{asked.problem}</Failed>
        ) : (
          <Loading lines={8} what="Loading the matrix" />
        )}
      </Card>
    );
  const steps = [...new Set(list.value?.evaluations.map((one) => Number(one.step)) ?? [shown.step])];
  return (
    <>
      <div class={css.bar}>
        <StepSlider
          steps={steps.sort((a, b) => a - b)}
          step={chosen ?? shown.step}
          below={shown.step}
          failed={asked.problem !== "" && !asked.loading}
          following={chosen === undefined}
          onChoose={setChosen}
        />
      </div>
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      <MatrixView found={shown} job={job} />
    </>
  );
}

/** The matrix of a step, zero for the newest; null where no evaluation has one. */
async function find(
  kept: Map<number, Matrix>,
  jobId: string,
  step: number,
  signal: AbortSignal,
): Promise<Found | null> {
  const known = kept.get(step);
  if (known !== undefined) return { step, matrix: known };
  try {
    const answer = await evaluations.getConfusionMatrix({ jobId, step: BigInt(step) }, call(signal));
    if (answer.matrix === undefined) return null;
    const found = { step: Number(answer.step), matrix: fromProto(answer.matrix) };
    kept.set(found.step, found.matrix);
    let cells = 0;
    for (const one of kept.values()) cells += one.counts.length;
    for (const [old, one] of kept) {
      if (cells <= MOST_KEPT || old === found.step) break;
      kept.delete(old);
      cells -= one.counts.length;
    }
    return found;
  } catch (error) {
    if (step === 0 && hasCode(error, Code.NotFound)) return null;
    throw error;
  }
}

function MatrixView({ found: { step, matrix }, job }: { found: Found; job: Job }) {
  const [background, setBackground] = useState(true);
  const [asShares, setAsShares] = useState(false);
  const [told, setTold] = useState<readonly [row: number, column: number]>();
  const shown = useMemo(() => (background ? matrix : withoutBackground(matrix)), [matrix, background]);
  const task = job.spec?.architecture?.task ?? Task.UNSPECIFIED;
  const inside = told !== undefined && Math.max(...told) < shown.classes.length ? told : undefined;
  const Drawn = shown.classes.length > MOST_ELEMENTS ? MatrixCanvas : MatrixGrid;
  if (matrix.classes.length === 0)
    return (
      <Card>
        <Empty title="This matrix has no classes" />
      </Card>
    );
  return (
    <div class={css.page}>
      <Card
        title="Confusion matrix"
        actions={
          <Button
            small
            onClick={() => saveAs(`confusion-${job.jobId}-step-${step}.csv`, [asCsv(shown)], "text/csv;charset=utf-8")}
          >
            Download as CSV
          </Button>
        }
      >
        <div class={css.bar}>
          <fieldset class={css.choice}>
            <legend class="visually-hidden">Numbers in the cells</legend>
            {(
              [
                [false, "Counts"],
                [true, "Shares of the ground truth, %"],
              ] as const
            ).map(([value, label]) => (
              <label key={label}>
                <input type="radio" name="cells" checked={asShares === value} onChange={() => setAsShares(value)} />
                {label}
              </label>
            ))}
          </fieldset>
          {matrix.background && (
            <label class={css.check}>
              <input
                type="checkbox"
                checked={background}
                onChange={(event) => setBackground(event.currentTarget.checked)}
              />
              Background
            </label>
          )}
          {matrix.iou > 0 && <span class="quiet">found from an overlap (IoU) of {matrix.iou} on</span>}
        </div>
        <p class={css.axes}>
          <span>
            <span aria-hidden="true">→</span> columns: ground truth
          </span>
          <span>
            <span aria-hidden="true">↓</span> rows: predictions
          </span>
          <Scale />
        </p>
        <Drawn
          matrix={shown}
          asShares={asShares}
          label={`Confusion matrix of step ${integer(step)}, ${shown.classes.length} classes: predictions in rows, ground truth in columns`}
          onTell={(row, column) => setTold(row === undefined ? undefined : [row, column ?? 0])}
        />
        <p class={css.told} role="status">
          {inside ? (
            `${cellWords(shown, inside[0], inside[1], task)}${shareOf(shown, inside[0], inside[1])}.`
          ) : (
            <span class="quiet">Point at a cell, or move with the arrow keys, to read what it says.</span>
          )}
        </p>
      </Card>
      <div class={css.side}>
        <Confusions matrix={shown} task={task} />
        <ClassScores matrix={matrix} task={task} />
      </div>
    </div>
  );
}

/** `, 3.2 % of them`; empty where that says nothing. */
function shareOf(matrix: Matrix, row: number, column: number): string {
  const n = matrix.classes.length;
  let whole = 0;
  for (let at = column; at < matrix.counts.length; at += n) whole += matrix.counts[at] ?? 0;
  const count = matrix.counts[row * n + column] ?? 0;
  return count > 0 && count < whole ? `, ${((100 * count) / whole).toFixed(1)} % of the column` : "";
}
