import { cleanup, fireEvent, render } from "@testing-library/preact";
import { afterEach, expect, test, vi } from "vitest";
import { MatrixGrid } from "../src/pages/trainings/matrix-grid";
import { type Matrix, shares } from "../src/pages/trainings/matrix-math";

afterEach(cleanup);
vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));

const matrix: Matrix = {
  classes: ["cat", "dog", "cat"],
  counts: Float64Array.from([5, 0, 1, 2, 7, 0, 0, 0, 12345]),
  background: false,
  iou: 0,
};

function shown(asShares = false) {
  const told: (readonly [number?, number?])[] = [];
  const view = render(
    <MatrixGrid matrix={matrix} asShares={asShares} label="Matrix" onTell={(...cell) => told.push(cell)} />,
  );
  const cell = (row: number, column: number) => {
    const found = view.container.querySelector<HTMLElement>(`[data-row="${row}"][data-column="${column}"]`);
    if (found === null) throw new Error("no such cell");
    return found;
  };
  return { ...view, told, cell };
}

test("arrow keys move the focus, stop at the edges, and tell the cell; one cell is reached by Tab", () => {
  const { cell, told, container } = shown();
  cell(0, 0).focus();
  for (const key of ["ArrowLeft", "ArrowDown", "ArrowRight", "End"])
    fireEvent.keyDown(document.activeElement ?? document.body, { key });
  expect(document.activeElement).toBe(cell(1, 2));
  expect(told.at(-1)).toEqual([1, 2]);
  expect(container.querySelectorAll('td[tabindex="0"]').length).toBe(1);
});

test("rows are predictions, columns ground truth; totals stand beside them, zeros are left blank", () => {
  const { cell, getByRole } = shown();
  expect(cell(1, 0).textContent).toBe("2");
  expect(cell(0, 1).textContent).toBe("");
  const rows = [...getByRole("grid").querySelectorAll("tr")].map((row) => row.lastElementChild?.textContent);
  expect(rows).toEqual(["all", "6", "9", "12.3K", "12.4K"]);
});

test("shares are of the column", () => {
  const { cell } = shown(true);
  const part = shares(matrix);
  expect(Number(cell(1, 0).textContent)).toBeCloseTo(100 * (part[3] ?? 0), 0);
  expect(cell(1, 1).textContent).toBe("100");
});
