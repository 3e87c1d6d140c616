// The lines of a log that are known here. Pure.
import type { StoredLogLine } from "../../gen/protos/metrics/v1/metrics_pb";

/** A row of the log on the screen. */
export type LogRow =
  | { readonly kind: "line"; readonly key: string; readonly line: StoredLogLine }
  | { readonly kind: "attempt"; readonly key: string; readonly number: number };

const MOST_LINES = 200_000;
/** How many lines come at once. */
export const PAGE = 1000;

export class LogLines {
  lines: StoredLogLine[] = [];

  /** More lines than `most` are not kept: the oldest go, and are read again when somebody scrolls there. */
  constructor(private readonly most = MOST_LINES) {}

  /** Takes what a watch tells; the first answer of a stream begins anew, but lines before it that are known stay. */
  append(told: readonly StoredLogLine[], fresh: boolean): void {
    const first = told[0]?.line ?? 0n;
    if (fresh) {
      // Where the new beginning touches what is known, or lies in it, nothing has to be read again.
      const last = this.lines.at(-1)?.line ?? 0n;
      this.lines = told.length > 0 && first <= last + 1n ? this.lines.filter((line) => line.line < first) : [];
    }
    const known = this.lines.at(-1)?.line ?? 0n;
    for (const line of told) if (line.line > known) this.lines.push(line);
    if (this.lines.length > this.most) this.lines.splice(0, this.lines.length - this.most);
  }

  /** Takes lines that come before. False: there were none. */
  prepend(earlier: readonly StoredLogLine[]): boolean {
    const first = this.lines[0]?.line;
    const fresh = first === undefined ? [...earlier] : earlier.filter((line) => line.line < first);
    this.lines = [...fresh, ...this.lines];
    return fresh.length > 0;
  }
}

/** Rows with a line between attempts; `numberOf` tells which attempt it is, zero where that is not known. */
export function rowsOf(lines: readonly StoredLogLine[], numberOf: (attemptId: string) => number): LogRow[] {
  const rows: LogRow[] = [];
  let attempt = lines[0]?.attemptId ?? "";
  const begin = numberOf(attempt);
  if (begin > 1 && lines[0]?.sequence === 1n) rows.push({ kind: "attempt", key: `a${attempt}`, number: begin });
  for (const line of lines) {
    if (line.attemptId !== attempt) {
      attempt = line.attemptId;
      rows.push({ kind: "attempt", key: `a${attempt}`, number: numberOf(attempt) });
    }
    rows.push({ kind: "line", key: String(line.line), line });
  }
  return rows;
}
