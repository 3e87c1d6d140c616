// Confusion matrices: totals, shares, scores, and what was taken for what. Predictions in rows, ground truth in
// columns. Pure.
import type { ConfusionMatrix } from "../../gen/protos/training/v1/training_pb";
import { Task } from "../../gen/protos/training/v1/training_pb";

export interface Matrix {
  readonly classes: readonly string[];
  /** n × n, row by row. */
  readonly counts: Float64Array;
  /** The last class is the background. */
  readonly background: boolean;
  /** Detection: an object is found from this overlap on; zero otherwise. */
  readonly iou: number;
}

/** A matrix as the platform sent it; counts beyond 2^53 lose their last digits. */
export function fromProto(sent: ConfusionMatrix): Matrix {
  // A loop: a thousand classes have a million counts, which `from` takes ten times as long for.
  const counts = new Float64Array(sent.counts.length);
  for (let at = 0; at < counts.length; at++) counts[at] = Number(sent.counts[at]);
  return {
    classes: sent.classes,
    counts,
    background: sent.background && sent.classes.length > 0,
    iou: sent.iouThreshold,
  };
}

/** The matrix without the background's row and column; itself where it has none. */
export function withoutBackground(matrix: Matrix): Matrix {
  if (!matrix.background) return matrix;
  const n = matrix.classes.length;
  const counts = new Float64Array((n - 1) ** 2);
  for (let row = 0; row < n - 1; row++) counts.set(matrix.counts.subarray(row * n, row * n + n - 1), row * (n - 1));
  return { ...matrix, classes: matrix.classes.slice(0, -1), counts, background: false };
}

export interface Totals {
  /** Predictions of each class. */
  readonly rows: Float64Array;
  /** Ground truth of each class. */
  readonly columns: Float64Array;
  readonly all: number;
  readonly largest: number;
}

export function totals({ classes, counts }: Matrix): Totals {
  const n = classes.length;
  const [rows, columns] = [new Float64Array(n), new Float64Array(n)];
  let [all, largest] = [0, 0];
  for (let row = 0; row < n; row++)
    for (let column = 0; column < n; column++) {
      const count = counts[row * n + column] ?? 0;
      rows[row] = (rows[row] ?? 0) + count;
      columns[column] = (columns[column] ?? 0) + count;
      all += count;
      largest = Math.max(largest, count);
    }
  return { rows, columns, all, largest };
}

/** Each count as a share of its column, that is of its ground truth; zero in an empty column. */
export function shares(matrix: Matrix): Float64Array {
  const { columns } = totals(matrix);
  const n = matrix.classes.length;
  const found = new Float64Array(matrix.counts.length);
  for (let at = 0; at < found.length; at++) {
    const whole = columns[at % n] ?? 0;
    found[at] = whole > 0 ? (matrix.counts[at] ?? 0) / whole : 0;
  }
  return found;
}

export interface Score {
  readonly index: number;
  readonly name: string;
  /** Right among what was predicted as the class; NaN: nothing was. */
  readonly precision: number;
  /** Right among what is of the class; NaN: nothing is. */
  readonly recall: number;
  /** Zero where nothing is right; NaN where the class occurs in no way. */
  readonly f1: number;
  readonly support: number;
}

/**
 * How well each class is recognised, by the whole matrix: objects that were missed, or seen where nothing is, count
 * even where the background is hidden. A detection's background has no score: nobody predicts it.
 */
export function scores(matrix: Matrix): Score[] {
  const { rows, columns } = totals(matrix);
  const n = matrix.classes.length;
  const found = matrix.classes.map((name, index) => {
    const right = matrix.counts[index * n + index] ?? 0;
    const [said, is] = [rows[index] ?? 0, columns[index] ?? 0];
    return { index, name, precision: right / said, recall: right / is, f1: (2 * right) / (said + is), support: is };
  });
  return isDetection(matrix) ? found.slice(0, -1) : found;
}

/** Whether the background of this matrix is what no box is about, rather than a class like others. */
export function isDetection(matrix: Matrix): boolean {
  return matrix.background && matrix.iou > 0;
}

export interface Confusion {
  /** Index of what was predicted. */
  readonly row: number;
  /** Index of what it was. */
  readonly column: number;
  readonly count: number;
  /** Of the ground truth. */
  readonly share: number;
}

/** The most frequent mistakes, the most frequent first; of equal ones the larger share of its class. */
export function confusions(matrix: Matrix, most: number): Confusion[] {
  const n = matrix.classes.length;
  const part = shares(matrix);
  const before = (a: Confusion, b: Confusion) => b.count - a.count || b.share - a.share || a.row - b.row;
  let found: Confusion[] = [];
  for (let at = 0; at < matrix.counts.length; at++) {
    const [row, column] = [Math.floor(at / n), at % n];
    const count = matrix.counts[at] ?? 0;
    if (row === column || count === 0) continue;
    found.push({ row, column, count, share: part[at] ?? 0 });
    // A matrix of a thousand classes may have a million mistakes: only the largest are kept.
    if (found.length >= 50 * most) found = found.sort(before).slice(0, most);
  }
  return found.sort(before).slice(0, most);
}

const UNITS: Record<number, string> = {
  [Task.CLASSIFICATION]: "image",
  [Task.DETECTION]: "object",
  [Task.SEGMENTATION]: "pixel",
};

const plain = new Intl.NumberFormat("en");

/** What a cell means: `12 images of 3 were taken for 8`. */
export function cellWords(matrix: Matrix, row: number, column: number, task: Task): string {
  const n = matrix.classes.length;
  const count = matrix.counts[row * n + column] ?? 0;
  const unit = UNITS[task] ?? "example";
  const many = `${count === 0 ? "No" : plain.format(count)} ${unit}${count === 1 ? "" : "s"}`;
  const was = count === 1 ? "was" : "were";
  const [said, is] = [`“${matrix.classes[row] ?? ""}”`, `“${matrix.classes[column] ?? ""}”`];
  if (isDetection(matrix)) {
    if (row === n - 1 && column === n - 1) return "The background is where nothing is and nothing was predicted";
    if (row === n - 1) return `${many} of ${is} ${was} missed`;
    if (column === n - 1)
      return `${count === 0 ? "No" : plain.format(count)} prediction${count === 1 ? "" : "s"} of ${said} where nothing is`;
  }
  if (row === column) return `${many} of ${is} ${was} recognised`;
  return `${many} of ${is} ${was} taken for ${said}`;
}

/** The matrix as comma-separated values: a line for each prediction, a column for each ground truth. */
export function asCsv(matrix: Matrix): string {
  const n = matrix.classes.length;
  // What begins like a formula would be run by a spreadsheet; names come from datasets.
  const cell = (text: string) => `"${text.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const lines = [["predicted \\ truth", ...matrix.classes].map(cell).join(",")];
  for (let row = 0; row < n; row++)
    lines.push([cell(matrix.classes[row] ?? ""), ...matrix.counts.subarray(row * n, row * n + n)].join(","));
  return `${lines.join("\r\n")}\r\n`;
}
