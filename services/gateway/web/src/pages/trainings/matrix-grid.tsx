import { useMemo, useRef } from "preact/hooks";
import { colours } from "../../theme";
import { css as cssOf, RAMPS, shade, textOn } from "./drawing-colours";
import css from "./matrix.module.css";
import { type Matrix, shares, totals } from "./matrix-math";

export interface DrawnProps {
  matrix: Matrix;
  /** Shares of the column in percent instead of counts. */
  asShares: boolean;
  label: string;
  /** The cell that is pointed at, or has the focus; undefined: none. */
  onTell: (row?: number, column?: number) => void;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat("en");

/** Longer names stand upright above their column. */
const LONG_NAME = 5;

/** Counts above this are told short: `12K`. */
const LONG = 9999;

/** `97.3` of a share; `1,234` or `12K` of a count; nothing of zero, so that what matters is seen. */
export function cellText(count: number, share: number, asShares: boolean): string {
  if (count === 0) return "";
  if (asShares) return share >= 0.9995 ? "100" : share < 0.0005 ? "0" : (share * 100).toFixed(1);
  return count > LONG ? compact.format(count) : plain.format(count);
}

/** The colour ramp of the page's appearance as it is now; components that call it follow its changes. */
export function useRamp() {
  // Read so that a change of the appearance draws anew.
  void colours.value;
  return RAMPS[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
}

const STEPS: Record<string, readonly [number, number]> = {
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  Home: [0, Number.NEGATIVE_INFINITY],
  End: [0, Number.POSITIVE_INFINITY],
  PageUp: [-10, 0],
  PageDown: [10, 0],
};

/** Where a key leads in a matrix of n classes; undefined: it is none of ours. */
export function moved(key: string, row: number, column: number, n: number): readonly [number, number] | undefined {
  const step = STEPS[key];
  if (step === undefined) return undefined;
  const within = (at: number) => Math.min(Math.max(at, 0), n - 1);
  return [within(row + step[0]), within(column + step[1])];
}

/** What the colours of cells mean. */
export function Scale() {
  const ramp = useRamp();
  const parts = [0, 0.05, 0.2, 0.4, 0.6, 0.8, 1];
  return (
    <span class={css.scale}>
      0 %
      <span class={css.swatches} aria-hidden="true">
        {parts.map((share) => (
          <span key={share} class={css.swatch} style={{ background: cssOf(shade(share, ramp)) }} />
        ))}
      </span>
      100 % of its column
    </span>
  );
}

/** A matrix of few classes as a grid: a cell of it has the focus, arrow keys move it. */
export function MatrixGrid({ matrix, asShares, label, onTell }: DrawnProps) {
  const table = useRef<HTMLTableElement>(null);
  const ramp = useRamp();
  const n = matrix.classes.length;
  const part = useMemo(() => shares(matrix), [matrix]);
  const sums = useMemo(() => totals(matrix), [matrix]);
  const tell = (target: EventTarget | null) => {
    const cell = target instanceof Element ? target.closest<HTMLElement>("[data-row]") : null;
    if (cell) onTell(Number(cell.dataset.row), Number(cell.dataset.column));
  };
  const go = (event: KeyboardEvent) => {
    const here = event.target instanceof HTMLElement ? event.target : undefined;
    const to = moved(event.key, Number(here?.dataset.row), Number(here?.dataset.column), n);
    if (to === undefined || here?.dataset.row === undefined) return;
    event.preventDefault();
    const next = table.current?.querySelector<HTMLElement>(`[data-row="${to[0]}"][data-column="${to[1]}"]`);
    if (!next) return;
    // One cell at a time can be reached by Tab: the one that had the focus last.
    for (const old of table.current?.querySelectorAll('td[tabindex="0"]') ?? []) old.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  };
  return (
    <div class={css.scroll}>
      <table
        ref={table}
        class={`${css.grid} ${n <= 12 ? css.wide : n > 25 ? css.narrow : ""}`}
        role="grid"
        aria-label={label}
        aria-readonly="true"
        onKeyDown={go}
        onPointerOver={(event) => tell(event.target)}
        onPointerLeave={() => onTell()}
        onFocusIn={(event) => tell(event.target)}
      >
        <thead>
          <tr>
            <th scope="col" class={css.corner}>
              <span class="visually-hidden">Prediction</span>
            </th>
            {matrix.classes.map((name, column) => (
              <th key={column} scope="col" class={name.length > LONG_NAME ? css.upright : undefined} title={name}>
                <span>{name}</span>
              </th>
            ))}
            <th scope="col" class={css.total}>
              all
            </th>
          </tr>
        </thead>
        <tbody>
          {matrix.classes.map((name, row) => (
            <tr key={row}>
              <th scope="row" title={name}>
                <span>{name}</span>
              </th>
              {matrix.classes.map((_, column) => {
                const [count, share] = [matrix.counts[row * n + column] ?? 0, part[row * n + column] ?? 0];
                const colour = shade(share, ramp);
                return (
                  <td
                    key={column}
                    data-row={row}
                    data-column={column}
                    tabIndex={row === 0 && column === 0 ? 0 : -1}
                    class={row === column ? css.diagonal : undefined}
                    style={{ background: cssOf(colour), color: cssOf(textOn(colour)) }}
                  >
                    {cellText(count, share, asShares)}
                  </td>
                );
              })}
              <td class={css.total}>{sumText(sums.rows[row] ?? 0)}</td>
            </tr>
          ))}
          <tr>
            <th scope="row" class={css.total}>
              all
            </th>
            {matrix.classes.map((_, column) => (
              <td key={column} class={css.total}>
                {sumText(sums.columns[column] ?? 0)}
              </td>
            ))}
            <td class={css.total}>{sumText(sums.all)}</td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

function sumText(sum: number): string {
  return sum > LONG ? compact.format(sum) : plain.format(sum);
}
