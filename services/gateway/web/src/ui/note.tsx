import type { ComponentChildren } from "preact";
import type { State, Tone } from "../states";
import { Button } from "./button";
import css from "./kit.module.css";

const SYMBOLS: Record<Tone, string> = { good: "✔", warn: "⚠", bad: "✘", busy: "ℹ", quiet: "ℹ" };

/** A sentence that stands out: an error, a warning, a hint. Errors are read out at once. */
export function Note({ tone = "busy", children }: { tone?: Tone; children: ComponentChildren }) {
  return (
    <div class={`${css.note} ${css[tone] ?? ""}`} role={tone === "bad" ? "alert" : "status"}>
      <span class={css.noteSymbol} aria-hidden="true">
        {SYMBOLS[tone]}
      </span>
      <div>{children}</div>
    </div>
  );
}

/** The server's sentence about something that could not be shown, with another try. */
export function Failed({ children, retry }: { children: ComponentChildren; retry?: () => void }) {
  return (
    <Note tone="bad">
      <p>{children}</p>
      {retry && (
        <p style={{ marginTop: "8px" }}>
          <Button small onClick={retry}>
            Try again
          </Button>
        </p>
      )}
    </Note>
  );
}

/** What a place without anything says: what it is for, and what to do first. */
export function Empty({
  title,
  children,
  action,
}: {
  title: string;
  children?: ComponentChildren;
  action?: ComponentChildren;
}) {
  return (
    <div class={css.empty}>
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {action}
    </div>
  );
}

/** Grey lines where something is about to be. */
export function Loading({ lines = 4, what = "Loading" }: { lines?: number; what?: string }) {
  return (
    <div class={css.skeleton} role="status" aria-label={what}>
      {Array.from({ length: lines }, (_, n) => (
        <span key={n} style={{ width: `${90 - ((n * 23) % 50)}%` }} />
      ))}
    </div>
  );
}

/** The symbol of a state; always beside its word. */
export function StateSymbol({ of }: { of: State }) {
  const dot = css[of.symbol];
  return dot ? <span class={`${css.dot} ${dot}`} aria-hidden="true" /> : <span aria-hidden="true">{of.symbol}</span>;
}

/** A state as symbol and word. */
export function StateBadge({ state, more }: { state: State; more?: string }) {
  return (
    <span class={`${css.badge} ${css[state.tone] ?? ""}`}>
      <StateSymbol of={state} />
      {state.label}
      {more && ` · ${more}`}
    </span>
  );
}

export function Badge({ tone = "quiet", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`${css.badge} ${css[tone] ?? ""}`}>{children}</span>;
}

/** Marks GPUs that are made up: the training runs on the CPU. */
export function Simulated() {
  return (
    <span class={`${css.badge} ${css.simulated}`} title="Simulated GPUs: the training runs on the CPU">
      simulated
    </span>
  );
}

/** A share of one as a bar, with its meaning in words for those who do not see it; `welcome`: a full one is no alarm. */
export function Bar({ share, label, welcome }: { share: number; label: string; welcome?: boolean }) {
  const tone = welcome ? "" : share >= 1 ? css.barBad : share >= 0.9 ? css.barWarn : "";
  const value = Math.round(Math.min(Math.max(share, 0), 1) * 100);
  return (
    <div
      class={`${css.bar} ${tone}`}
      role="progressbar"
      aria-label={label}
      aria-valuenow={value}
      aria-valuemin={0}
      aria-valuemax={100}
    >
      <span style={{ width: `${value}%` }} />
    </div>
  );
}
