import { useMemo, useState } from "preact/hooks";
import { integer } from "../../format";
import type { Task } from "../../gen/protos/training/v1/training_pb";
import { Button } from "../../ui/button";
import { SelectField } from "../../ui/fields";
import { Card, right, Table } from "../../ui/layout";
import css from "./matrix.module.css";
import { cellWords, confusions, type Matrix, type Score, scores } from "./matrix-math";

const MOST_CONFUSED = 10;
const FIRST_CLASSES = 50;

/** The most frequent mistakes, in words. */
export function Confusions({ matrix, task }: { matrix: Matrix; task: Task }) {
  const found = useMemo(() => confusions(matrix, MOST_CONFUSED), [matrix]);
  return (
    <Card title="Most confused">
      {found.length === 0 ? (
        <p>
          <span aria-hidden="true">✔</span> Nothing was taken for anything else.
        </p>
      ) : (
        <ol class={css.confused}>
          {found.map(({ row, column, share }) => (
            <li key={`${row} ${column}`}>
              {cellWords(matrix, row, column, task)} <span class="quiet number">{(share * 100).toFixed(1)} %</span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

const ORDERS = [
  { value: "given", label: "As the dataset has them" },
  { value: "worst", label: "Worst first (F1)" },
  { value: "most", label: "Most examples first" },
];

const SORTED: Record<string, (a: Score, b: Score) => number> = {
  given: (a, b) => a.index - b.index,
  // A class that nobody could score is the last to look at.
  worst: (a, b) => (Number.isNaN(a.f1) ? 2 : a.f1) - (Number.isNaN(b.f1) ? 2 : b.f1),
  most: (a, b) => b.support - a.support,
};

/** How well each class is recognised. */
export function ClassScores({ matrix, task }: { matrix: Matrix; task: Task }) {
  const all = useMemo(() => scores(matrix), [matrix]);
  const [order, setOrder] = useState(all.length > FIRST_CLASSES ? "worst" : "given");
  const [most, setMost] = useState(FIRST_CLASSES);
  const sorted = useMemo(() => [...all].sort(SORTED[order]), [all, order]);
  const unit = { 1: "Images", 2: "Objects", 3: "Pixels" }[task as number] ?? "Examples";
  return (
    <Card title="Classes" flush>
      {all.length > 5 && (
        <div class={css.order}>
          <SelectField label="Order" value={order} options={ORDERS} onChange={setOrder} />
        </div>
      )}
      <div class={css.scores}>
        <Table
          label="Precision, recall and F1 of each class"
          head={
            <>
              <th scope="col">Class</th>
              {["Precision", "Recall", "F1", unit].map((name) => (
                <th key={name} scope="col" class={right}>
                  {name}
                </th>
              ))}
            </>
          }
        >
          {sorted.slice(0, most).map((one) => (
            <tr key={one.index}>
              <td class="break">{one.name}</td>
              <td class={right}>{scoreText(one.precision)}</td>
              <td class={right}>{scoreText(one.recall)}</td>
              <td class={right}>{scoreText(one.f1)}</td>
              <td class={right}>{integer(one.support)}</td>
            </tr>
          ))}
        </Table>
      </div>
      {sorted.length > most && (
        <div class={css.order}>
          <Button small onClick={() => setMost(most + 10 * FIRST_CLASSES)}>
            Show more ({integer(sorted.length - most)} left)
          </Button>
        </div>
      )}
    </Card>
  );
}

/** `0.973`; a dash where there is nothing to score. */
function scoreText(value: number): string {
  return Number.isNaN(value) ? "–" : value.toFixed(3);
}
