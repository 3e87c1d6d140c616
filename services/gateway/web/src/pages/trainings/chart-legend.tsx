import css from "./chart.module.css";
import type { Cell } from "./chart-data";
import { colourOf, dashOf } from "./chart-style";
import { cellText } from "./chart-text";

interface LegendItem {
  readonly id: string;
  readonly name: string;
  readonly label: string;
  readonly look: number;
  readonly value: Cell;
  readonly hidden: boolean;
}

interface LegendProps {
  items: readonly LegendItem[];
  onToggle: (id: string) => void;
  /** What the marks on the x axis mean, where there are any. */
  marks: string | undefined;
}

/** The lines of a chart with their values where the cursor is; each can be taken away. */
export function Legend({ items, onToggle, marks }: LegendProps) {
  return (
    <ul class={css.legend}>
      {items.map((item) => (
        <li key={item.id}>
          <button
            type="button"
            class={css.legendItem}
            aria-pressed={!item.hidden}
            title={item.hidden ? `Show ${item.label}` : `Hide ${item.label}`}
            onClick={() => onToggle(item.id)}
          >
            <Swatch look={item.look} />
            <span class={css.legendName}>{item.label}</span>
            <span class="number">{cellText(item.name, item.value)}</span>
          </button>
        </li>
      ))}
      {marks && <li class={css.marks}>▲ {marks}</li>}
    </ul>
  );
}

/** A piece of the line as the chart draws it. */
export function Swatch({ look }: { look: number }) {
  return (
    <svg width="26" height="8" viewBox="0 0 26 8" aria-hidden="true" style={{ color: `var(${colourOf(look)})` }}>
      <path d="M0 4h26" stroke="currentColor" stroke-width="2.5" stroke-dasharray={dashOf(look).join(" ")} />
    </svg>
  );
}
