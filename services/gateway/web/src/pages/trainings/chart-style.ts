// How lines are told apart: by colour, and by their dashes for those who do not see colours. Pure.

const DASHES: readonly (readonly number[])[] = [
  [],
  [9, 4],
  [2, 3],
  [10, 3, 2, 3],
  [5, 3],
  [14, 4],
  [1, 4],
  [6, 2, 1, 2],
];

/** Number of looks; the next line begins anew with the first. */
export const LOOKS = DASHES.length;

/** Name of the colour in styles.css. */
export function colourOf(look: number): string {
  return `--series-${(look % LOOKS) + 1}`;
}

/** Dash pattern in pixels; empty: a line without gaps. */
export function dashOf(look: number): number[] {
  return [...(DASHES[look % LOOKS] ?? [])];
}
