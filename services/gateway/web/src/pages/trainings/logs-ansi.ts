// Colours of a terminal as pieces of text with a look. Pure. Other control sequences are left out.

export interface Look {
  /** 0 to 15: a named colour; `rgb(…)`: another. */
  readonly colour?: number | string;
  readonly background?: number | string;
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly italic?: boolean;
  readonly underline?: boolean;
  readonly inverse?: boolean;
}

export interface Piece {
  readonly text: string;
  readonly look: Look;
  /** What was searched for. */
  readonly found?: boolean;
}

// Control sequences (ECMA-48), titles and links that a terminal is told, and single escapes.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const ESCAPES = /\u001b(?:\[([0-?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|[ -/]*[0-Z\\-~])/g;

/** A line in pieces; of a line that overwrites itself, as progress bars do, what a terminal shows last. */
export function pieces(line: string): Piece[] {
  const text = overwritten(line);
  const found: Piece[] = [];
  let [look, at]: [Look, number] = [{}, 0];
  const take = (until: number) => {
    if (until > at) found.push({ text: text.slice(at, until), look });
  };
  for (const sequence of text.matchAll(ESCAPES)) {
    take(sequence.index);
    at = sequence.index + sequence[0].length;
    if (sequence[2] === "m") look = changed(look, sequence[1] ?? "");
  }
  take(text.length);
  return found;
}

/** The line as a terminal would show it, without colours. */
export function plain(line: string): string {
  return overwritten(line).replace(ESCAPES, "");
}

function overwritten(line: string): string {
  if (!line.includes("\r")) return line;
  return line.split("\r").findLast((part) => part !== "") ?? "";
}

/** The pieces with what was searched for, in whatever case, as pieces of its own. */
export function marked(line: readonly Piece[], search: string): Piece[] {
  const wanted = search.toLowerCase();
  const whole = line.map((piece) => piece.text).join("");
  const lower = whole.toLowerCase();
  // Letters that change their number of characters in lower case would shift the marks.
  if (wanted === "" || lower.length !== whole.length) return [...line];
  const ends: [from: number, to: number][] = [];
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, at + wanted.length))
    ends.push([at, at + wanted.length]);
  const result: Piece[] = [];
  let start = 0;
  for (const piece of line) {
    const end = start + piece.text.length;
    let at = start;
    for (const [from, to] of ends) {
      if (to <= at || from >= end) continue;
      if (from > at) result.push({ ...piece, text: whole.slice(at, from) });
      result.push({ ...piece, text: whole.slice(Math.max(from, at), Math.min(to, end)), found: true });
      at = Math.min(to, end);
    }
    if (at < end) result.push({ ...piece, text: whole.slice(at, end) });
    start = end;
  }
  return result;
}

function changed(before: Look, parameters: string): Look {
  const codes = parameters.split(/[;:]/).map((code) => Number(code || "0"));
  let look: { -readonly [Key in keyof Look]: Look[Key] } = { ...before };
  for (let n = 0; n < codes.length; n += 1) {
    const code = codes[n] ?? 0;
    if (code === 0) look = {};
    else if (code === 1) look.bold = true;
    else if (code === 2) look.dim = true;
    else if (code === 3) look.italic = true;
    else if (code === 4) look.underline = true;
    else if (code === 7) look.inverse = true;
    else if (code === 22) look = { ...look, bold: undefined, dim: undefined };
    else if (code === 23) look.italic = undefined;
    else if (code === 24) look.underline = undefined;
    else if (code === 27) look.inverse = undefined;
    else if (code === 39) look.colour = undefined;
    else if (code === 49) look.background = undefined;
    else if (code >= 30 && code <= 37) look.colour = code - 30;
    else if (code >= 90 && code <= 97) look.colour = code - 82;
    else if (code >= 40 && code <= 47) look.background = code - 40;
    else if (code >= 100 && code <= 107) look.background = code - 92;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(n + 1));
      if (colour !== undefined) look[code === 38 ? "colour" : "background"] = colour;
      n += used;
    }
  }
  return look;
}

/** A colour of 256 or of 16 million, and how many codes it takes. */
function extended(codes: readonly number[]): [number | string | undefined, number] {
  if (codes[0] === 2) {
    const [red = 0, green = 0, blue = 0] = codes.slice(1, 4).map((value) => Math.min(value, 255));
    return [`rgb(${red} ${green} ${blue})`, 4];
  }
  const index = codes[1];
  if (codes[0] !== 5 || index === undefined || index > 255) return [undefined, 2];
  if (index < 16) return [index, 2];
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return [`rgb(${grey} ${grey} ${grey})`, 2];
  }
  const level = (step: number) => (step === 0 ? 0 : 55 + step * 40);
  const cube = index - 16;
  return [`rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`, 2];
}
