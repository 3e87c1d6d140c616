import { describe, expect, test } from "vitest";
import { type Colour, classColour, contrast, css, RAMPS, shade, textOn } from "../src/pages/trainings/drawing-colours";

const AA = 4.5;
const distance = (a: Colour, b: Colour) => Math.hypot(...a.map((value, n) => value - (b[n] ?? 0)));

describe("colours of classes", () => {
  test("text on the colour of every class reads", () => {
    for (let index = 0; index <= 255; index++) {
      const colour = classColour(index);
      expect(contrast(colour, textOn(colour)), css(colour)).toBeGreaterThanOrEqual(AA);
    }
  });
  test("the first 20 are told apart, and neighbours always", () => {
    const first = Array.from({ length: 20 }, (_, index) => classColour(index));
    for (const [n, a] of first.entries())
      for (const b of first.slice(n + 1)) expect(distance(a, b), `${css(a)} ${css(b)}`).toBeGreaterThan(40);
    for (let index = 0; index < 253; index++)
      expect(distance(classColour(index), classColour(index + 1)), String(index)).toBeGreaterThan(80);
  });
  test("a background is grey wherever it stands", () => {
    expect(classColour(0, "background")).toEqual(classColour(255));
    expect(classColour(0, "cat")).not.toEqual(classColour(255));
  });
});

describe.each(["light", "dark"] as const)("shades, %s", (theme) => {
  const ramp = RAMPS[theme];
  test("the number on every shade reads", () => {
    for (let share = 0; share <= 1; share += 0.005) {
      const colour = shade(share, ramp);
      expect(contrast(colour, textOn(colour))).toBeGreaterThanOrEqual(AA);
    }
  });
  test("more is never nearer to nothing, and the least of something is not nothing", () => {
    let before = 0;
    for (const share of [0.0001, 0.01, 0.1, 0.3, 0.6, 1]) {
      const far = distance(shade(share, ramp), ramp[0]);
      expect(far).toBeGreaterThan(before);
      before = far;
    }
    expect(shade(0, ramp)).toEqual(ramp[0]);
    expect(shade(1, ramp)).toEqual(ramp[1]);
  });
});
