import { describe, expect, it } from "vitest";
import { areFew } from "../src/pages/trainings/chart-data";

describe("points of a chart", () => {
  it("are marked where a series has few, however many its neighbours have", () => {
    const sparse = Array.from({ length: 1000 }, (_, at) => (at % 100 === 0 ? at : null));
    expect(areFew(sparse, 0, 999)).toBe(true);
    expect(areFew([0.5], 0, 0)).toBe(true);
  });

  it("are not marked where they would hide the line, and are again when one looks closer", () => {
    const dense = Array.from({ length: 1000 }, (_, at) => at);
    expect(areFew(dense, 0, 999)).toBe(false);
    expect(areFew(dense, 500, 520)).toBe(true);
  });

  it("are not counted where there is none", () => {
    expect(areFew([undefined, null, Number.NaN, 1], 0, 3)).toBe(true);
    expect(areFew([], 0, 99)).toBe(true);
  });
});
