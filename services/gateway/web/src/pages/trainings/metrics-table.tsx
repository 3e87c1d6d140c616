import { useMemo } from "preact/hooks";
import { integer, measured } from "../../format";
import { right, Table } from "../../ui/layout";
import { placeName } from "./chart-text";
import { type Curves, ofBox } from "./curves";
import css from "./metrics.module.css";

interface LastValuesProps {
  curves: Curves;
  /** Counts up with what `curves` holds. */
  version: number;
  began: number;
}

/** The newest value of every series, for those who do not read charts. */
export function LastValues({ curves, version, began }: LastValuesProps) {
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts up with what the curves hold
  const rows = useMemo(
    () =>
      [...curves.names(false), ...curves.names(true)].map((name) => {
        const curve = curves.all.get(name);
        const finite = (curve?.values ?? []).filter(Number.isFinite);
        return {
          name,
          last: curve?.values.at(-1) ?? Number.NaN,
          low: finite.reduce((low, value) => Math.min(low, value), Number.POSITIVE_INFINITY),
          high: finite.reduce((high, value) => Math.max(high, value), Number.NEGATIVE_INFINITY),
          at: ofBox(name)
            ? placeName("time", ((curve?.atMs.at(-1) ?? began) - began) / 1000)
            : `step ${integer(curve?.steps.at(-1) ?? 0)}`,
        };
      }),
    [curves, version, began],
  );
  return (
    <details>
      <summary class={css.fold}>All values as a table</summary>
      <Table
        label="Newest values of all series"
        head={
          <>
            <th>Series</th>
            <th class={right}>Newest</th>
            <th class={right}>Lowest</th>
            <th class={right}>Highest</th>
            <th>At</th>
          </>
        }
      >
        {rows.map((row) => (
          <tr key={row.name}>
            <td class="break">{row.name}</td>
            <td class={right}>{measured(row.name, row.last)}</td>
            <td class={right}>{Number.isFinite(row.low) ? measured(row.name, row.low) : "–"}</td>
            <td class={right}>{Number.isFinite(row.high) ? measured(row.name, row.high) : "–"}</td>
            <td>{row.at}</td>
          </tr>
        ))}
      </Table>
    </details>
  );
}
