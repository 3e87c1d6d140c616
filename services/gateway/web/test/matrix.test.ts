import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ConfusionMatrixSchema, Task } from "../src/gen/protos/training/v1/training_pb";
import {
  asCsv,
  cellWords,
  confusions,
  fromProto,
  type Matrix,
  scores,
  shares,
  totals,
  withoutBackground,
} from "../src/pages/trainings/matrix-math";

/** Rows: predictions; columns: truth. */
function matrix(classes: string[], counts: number[][], more: Partial<Matrix> = {}): Matrix {
  return { classes, counts: Float64Array.from(counts.flat()), background: false, iou: 0, ...more };
}

// Six cats, two of them taken for dogs; four dogs, all right; no bird at all.
const pets = matrix(
  ["cat", "dog", "bird"],
  [
    [4, 0, 0],
    [2, 4, 0],
    [0, 0, 0],
  ],
);
// Of five objects one is missed; three predictions where nothing is.
const detection = matrix(
  ["cat", "dog", "background"],
  [
    [2, 0, 3],
    [0, 2, 0],
    [1, 0, 0],
  ],
  { background: true, iou: 0.5 },
);

describe("totals and shares", () => {
  test("both sides of the totals add up to the whole", () => {
    for (const one of [pets, detection, withoutBackground(detection)]) {
      const { rows, columns, all } = totals(one);
      expect(rows.reduce((a, b) => a + b)).toBe(all);
      expect(columns.reduce((a, b) => a + b)).toBe(all);
    }
    expect([...totals(pets).columns]).toEqual([6, 4, 0]);
  });
  test("the shares of a column add up to one, of an empty one to zero", () => {
    const found = shares(pets);
    const sums = [0, 1, 2].map((column) => [0, 1, 2].reduce((sum, row) => sum + (found[row * 3 + column] ?? 0), 0));
    expect(sums).toEqual([1, 1, 0]);
    expect(found[3]).toBeCloseTo(1 / 3);
  });
  test("without its background a matrix loses the last row and column and nothing else", () => {
    const shown = withoutBackground(detection);
    expect(shown.classes).toEqual(["cat", "dog"]);
    expect([...shown.counts]).toEqual([2, 0, 0, 2]);
    expect(withoutBackground(pets)).toBe(pets);
  });
});

describe("scores", () => {
  test("precision is along the row, recall along the column", () => {
    const [cat, dog, bird] = scores(pets);
    expect(cat).toMatchObject({ precision: 1, recall: 4 / 6, f1: 0.8, support: 6 });
    expect(dog).toMatchObject({ precision: 4 / 6, recall: 1, f1: 0.8, support: 4 });
    expect(bird?.precision).toBeNaN();
    expect(bird?.f1).toBeNaN();
  });
  test("what was missed or invented counts, and a detection's background has no score", () => {
    const found = scores(detection);
    expect(found.map((one) => one.name)).toEqual(["cat", "dog"]);
    expect(found[0]).toMatchObject({ precision: 2 / 5, recall: 2 / 3, support: 3 });
  });
  test("a segmentation's background is a class like others", () => {
    const found = scores({ ...detection, iou: 0 });
    expect(found.map((one) => one.name)).toContain("background");
  });
});

describe("confusions", () => {
  test("the most frequent first, never what was right", () => {
    expect(confusions(pets, 5)).toEqual([{ row: 1, column: 0, count: 2, share: 1 / 3 }]);
    expect(confusions(detection, 5).map(({ row, column }) => [row, column])).toEqual([
      [0, 2],
      [2, 0],
    ]);
  });
  test("of very many the same as by sorting all", () => {
    const n = 60;
    let seed = 1;
    const random = () => {
      seed = (seed * 48271) % 2147483647;
      return seed % 1000;
    };
    const counts = Array.from({ length: n }, () => Array.from({ length: n }, random));
    const large = matrix(Array.from({ length: n }, String), counts);
    const all = counts.flatMap((row, r) => row.filter((_, c) => c !== r)).sort((a, b) => b - a);
    expect(confusions(large, 7).map((one) => one.count)).toEqual(all.slice(0, 7));
  });
});

test("a cell is told in words that name both classes", () => {
  expect(cellWords(pets, 1, 0, Task.CLASSIFICATION)).toBe("2 images of “cat” were taken for “dog”");
  expect(cellWords(pets, 0, 0, Task.CLASSIFICATION)).toBe("4 images of “cat” were recognised");
  expect(cellWords(pets, 2, 0, Task.CLASSIFICATION)).toBe("No images of “cat” were taken for “bird”");
  expect(cellWords(detection, 2, 0, Task.DETECTION)).toBe("1 object of “cat” was missed");
  expect(cellWords(detection, 0, 2, Task.DETECTION)).toBe("3 predictions of “cat” where nothing is");
});

test("what is sent as integers becomes numbers, row by row", () => {
  const sent = create(ConfusionMatrixSchema, { classes: ["a", "b"], counts: [1n, 2n, 3n, 4n], background: true });
  expect([...fromProto(sent).counts]).toEqual([1, 2, 3, 4]);
  expect([...withoutBackground(fromProto(sent)).counts]).toEqual([1]);
});

test("names in a CSV are quoted, and none is a formula", () => {
  expect(
    asCsv(
      matrix(
        ['a"b', "=1+1"],
        [
          [1, 2],
          [3, 4],
        ],
      ),
    ),
  ).toBe(`"predicted \\ truth","a""b","'=1+1"\r\n"a""b",1,2\r\n"'=1+1",3,4\r\n`);
});
