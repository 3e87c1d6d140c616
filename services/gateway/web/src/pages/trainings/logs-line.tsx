import { integer, moment } from "../../format";
import type { StoredLogLine } from "../../gen/protos/metrics/v1/metrics_pb";
import css from "./logs.module.css";
import { type Look, marked, pieces } from "./logs-ansi";

// A longer line would hold the page up; a download has all of it.
const LONGEST = 10_000;

interface LogLineProps {
  line: StoredLogLine;
  search: string;
  /** Room for the largest number, as CSS has it. */
  numberWidth: string;
}

/** One line of the log: its number, whether it is error output, and its text in colours. */
export function LogLine({ line, search, numberWidth }: LogLineProps) {
  const text = line.text.length > LONGEST ? line.text.slice(0, LONGEST) : line.text;
  return (
    <div class={css.line} data-error={line.error || undefined}>
      <span class={css.number} style={{ minWidth: numberWidth }} title={moment(Number(line.atMs))}>
        {String(line.line)}
      </span>
      <span class={css.mark} title={line.error ? "Error output" : undefined}>
        {line.error && (
          <>
            <span aria-hidden="true">!</span>
            <span class="visually-hidden">error output: </span>
          </>
        )}
      </span>
      <code class={css.text}>
        {marked(pieces(text), search).map((piece, n) => {
          const look = lookOf(piece.look);
          const Part = piece.found ? "mark" : "span";
          return (
            <Part key={n} class={look.class} style={look.style}>
              {piece.text}
            </Part>
          );
        })}
        {line.text.length > LONGEST && (
          <span class={css.cut}>
            {" "}
            … {integer(line.text.length - LONGEST)} more characters; download the log for all
          </span>
        )}
      </code>
    </div>
  );
}

// The eight colours of terminals by the colours of this page, which can be read on it; bright ones look the same.
const COLOURS = [css.black, css.red, css.green, css.yellow, css.blue, css.magenta, css.cyan, css.white];

function lookOf(look: Look): { class: string | undefined; style: Record<string, string> | undefined } {
  const { colour, background, inverse } = look;
  const classes = [
    look.bold && css.bold,
    look.dim && css.dim,
    look.italic && css.italic,
    look.underline && css.underline,
    typeof colour === "number" && COLOURS[colour % 8],
    (inverse || background !== undefined) && css.backed,
  ].filter(Boolean);
  // Colours that programs make up are drawn towards the text's own, so that they can be read in light and dark.
  const style = typeof colour === "string" ? { color: `color-mix(in oklab, ${colour} 55%, var(--text))` } : undefined;
  return { class: classes.join(" ") || undefined, style };
}
