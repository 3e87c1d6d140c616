// Colours of classes and of shares, with text on them that can be read. Pure.
import { NOT_LABELLED } from "./drawing";

/** Red, green, blue, 0 to 255. */
export type Colour = readonly [red: number, green: number, blue: number];

/** What belongs to nothing, or was not labelled. */
const GREY: Colour = [107, 114, 128];
const BLACK: Colour = [0, 0, 0];
const WHITE: Colour = [255, 255, 255];
// Told apart by most people with a colour deficiency, and set in an order in which neighbours are far apart.
const FIRST: readonly Colour[] = [
  [0, 114, 178],
  [230, 159, 0],
  [0, 158, 115],
  [213, 94, 0],
  [204, 121, 167],
  [86, 180, 233],
  [240, 228, 66],
  [114, 60, 160],
  [150, 80, 30],
  [70, 240, 210],
  [190, 10, 60],
  [170, 255, 195],
  [0, 0, 117],
  [255, 183, 160],
  [90, 125, 0],
  [240, 50, 230],
  [122, 147, 200],
  [128, 0, 0],
  [200, 220, 0],
  [230, 190, 255],
];
const GOLDEN = 0.618034;

/** The colour of a class; the name tells a background, which has none of its own. */
export function classColour(index: number, name = ""): Colour {
  if (index === NOT_LABELLED || name === "background") return GREY;
  const first = FIRST[index];
  if (first !== undefined) return first;
  // Far from its neighbours: hues step by the golden ratio, in three degrees of brightness.
  return fromHsv((index * GOLDEN) % 1, 0.75, 1 - (0.35 * (index % 3)) / 2);
}

/** Relative luminance as WCAG defines it, 0 to 1. */
export function luminance([red, green, blue]: Colour): number {
  const linear = (value: number) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

/** Contrast of two colours as WCAG defines it, 1 to 21. */
export function contrast(a: Colour, b: Colour): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** Black or white, whichever reads better on it: never below 4.58 to 1. */
export function textOn(background: Colour): Colour {
  return contrast(background, BLACK) >= contrast(background, WHITE) ? BLACK : WHITE;
}

/** `rgb(1 2 3)`. */
export function css([red, green, blue]: Colour): string {
  return `rgb(${red} ${green} ${blue})`;
}

export const RAMPS: Record<"light" | "dark", readonly [none: Colour, all: Colour]> = {
  light: [WHITE, [8, 80, 74]],
  dark: [
    [23, 27, 32],
    [94, 234, 212],
  ],
};

/**
 * A colour between nothing (0) and all (1). Small shares are drawn apart, so that one mistake among hundreds is seen;
 * only an exact zero is the colour of nothing.
 */
export function shade(share: number, [none, all]: readonly [Colour, Colour]): Colour {
  const strength = share > 0 ? 0.08 + 0.92 * Math.sqrt(Math.min(share, 1)) : 0;
  const mix = (a: number, b: number) => Math.round(a + (b - a) * strength);
  return [mix(none[0], all[0]), mix(none[1], all[1]), mix(none[2], all[2])];
}

function fromHsv(hue: number, saturation: number, value: number): Colour {
  const channel = (n: number) => {
    const k = (n + hue * 6) % 6;
    return Math.round(255 * (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}
