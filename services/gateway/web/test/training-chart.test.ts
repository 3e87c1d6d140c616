import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  align,
  closer,
  nearest,
  over,
  positive,
  refined,
  roomy,
  smooth,
  stepRange,
  translate,
  valueAt,
} from "../src/pages/trainings/chart-data";
import { sections } from "../src/pages/trainings/chart-groups";
import { colourOf, dashOf, LOOKS } from "../src/pages/trainings/chart-style";
import { cellText, chartSummary } from "../src/pages/trainings/chart-text";

const curve = (steps: number[], atMs = steps.map((step) => 1000 * step)) => ({
  steps,
  atMs,
  values: steps.map((step) => step * 2),
});

describe("columns", () => {
  test("what was not measured at an x is no gap, what is no number is one", () => {
    const { xs, columns } = align([
      { xs: [1, 2, 3], values: [1, Number.NaN, 3] },
      { xs: [2, 4], values: [Number.POSITIVE_INFINITY, 8] },
    ]);
    expect(xs).toEqual([1, 2, 3, 4]);
    expect(columns).toEqual([
      [1, null, 3, undefined],
      [undefined, null, undefined, 8],
    ]);
  });
  test("of points at one x the last counts", () => {
    expect(align([{ xs: [1, 1], values: [5, 6] }])).toEqual({ xs: [1], columns: [[6]] });
  });
  test("smoothing keeps a constant, the first value and the gaps, and lies between what it averages", () => {
    expect(
      smooth([3, 3, undefined, null, 3], 0.9).map((v) => (typeof v === "number" ? Math.round(v * 1e9) / 1e9 : v)),
    ).toEqual([3, 3, undefined, null, 3]);
    const [first, second] = smooth([1, 2], 0.5);
    expect(first).toBe(1);
    expect(second).toBeGreaterThan(1);
    expect(second).toBeLessThan(2);
    expect(smooth([1, 5], 0)).toEqual([1, 5]);
  });
  test("a logarithmic scale has no place for zero and below", () => {
    expect(positive([1, 0, -1, null, undefined])).toEqual([1, null, null, null, undefined]);
  });
  test("a time axis is in order even where a clock was set back", () => {
    expect(over("time", curve([1, 2, 3], [1000, 5000, 3000]), 1000)).toEqual({ xs: [0, 2, 4], values: [2, 6, 4] });
  });
  test("a legend tells the last value up to the cursor", () => {
    expect(valueAt([1, undefined, undefined], 2)).toBe(1);
    expect(valueAt([undefined, 1], 0)).toBeUndefined();
    expect(valueAt([1, null, undefined], 2)).toBeNull();
  });
});

describe("places on the axis", () => {
  test("the nearest x is found from both sides", () => {
    const xs = [0, 10, 20];
    expect([-5, 4, 6, 19, 99].map((x) => nearest(xs, x))).toEqual([0, 0, 1, 2, 2]);
    expect(nearest([], 1)).toBe(-1);
  });
  test("steps and time translate into each other and back", () => {
    const reference = curve([10, 20, 40]);
    const seconds = translate(30, "step", "time", reference, 10_000);
    expect(seconds).toBe(20);
    expect(translate(20, "time", "step", reference, 10_000)).toBe(30);
    expect(translate(5, "step", "time", reference, 10_000)).toBe(0);
    expect(translate(5, "step", "time", undefined, 0)).toBeUndefined();
  });
  test("a range of time asks for the steps in it and one more at each end", () => {
    expect(stepRange("time", curve([1, 2, 3, 4, 5]), 0, [2.5, 3.5])).toEqual([2, 4]);
    expect(stepRange("time", curve([1, 2]), 0, [8, 9])).toBeUndefined();
    expect(stepRange("step", curve([1, 2]), 0, [1.5, 7.2])).toEqual([1, 8]);
  });
  test("detail replaces what it covers and nothing else", () => {
    const coarse = { xs: [1, 5, 9], values: [1, 5, 9] };
    expect(refined(coarse, { xs: [4, 5, 6], values: [40, 50, 60] })).toEqual({
      xs: [1, 4, 5, 6, 9],
      values: [1, 40, 50, 60, 9],
    });
    expect(refined(coarse, { xs: [], values: [] })).toBe(coarse);
  });
  test("looking closer stays around the place and within what there is", () => {
    expect(closer([0, 100], 50, 0.5, [0, 100])).toEqual([25, 75]);
    expect(closer([0, 100], 99, 0.5, [0, 100])).toEqual([50, 100]);
    expect(closer([25, 75], 50, 2, [0, 100])).toEqual([0, 100]);
  });
  test("one point has room around it", () => {
    const [from, to] = roomy([7, 7]);
    expect(from).toBeLessThan(7);
    expect(to).toBeGreaterThan(7);
  });
});

describe("what is drawn together", () => {
  const names = [
    "train/loss",
    "validation/loss",
    "train/learning_rate",
    "train/loss_boxes",
    "train/gradient_norm",
    "validation/accuracy",
    "gpu0/utilization_percent",
    "gpu1/utilization_percent",
    "gpu0/memory_used_bytes",
    "cpu/utilization_percent",
    "process/memory_used_bytes",
    "mine/thing",
  ];
  test("every series is in exactly one chart", () => {
    const drawn = sections(names).flatMap((section) =>
      section.charts.flatMap((chart) => chart.lines.map((line) => line.name)),
    );
    expect([...drawn].sort()).toEqual([...names].sort());
  });
  test("training and validation loss come first, GPUs share a chart", () => {
    const [training, box] = sections(names);
    expect(training?.charts[0]).toMatchObject({
      title: "Loss",
      lines: [{ label: "training" }, { label: "validation" }],
    });
    expect(box?.charts[0]?.lines.map((line) => line.label)).toEqual(["GPU 0", "GPU 1"]);
  });
  test("no chart has more lines than there are looks", () => {
    const many = Array.from({ length: 30 }, (_, n) => `train/thing_${n}`);
    const charts = sections(many).flatMap((section) => section.charts);
    expect(Math.max(...charts.map((chart) => chart.lines.length))).toBeLessThanOrEqual(LOOKS);
    expect(new Set(charts.map((chart) => chart.title)).size).toBe(charts.length);
  });
});

describe("looks of lines", () => {
  const styles = readFileSync("src/styles.css", "utf8");
  const [light, dark] = styles.split(':root[data-theme="dark"]') as [string, string];
  const value = (text: string, name: string) => new RegExp(`${name}: (#[0-9a-f]{6})`).exec(text)?.[1] ?? "";
  test.each([
    ["light", light],
    ["dark", dark],
  ])("every line stands out from the page, %s", (_, text) => {
    for (let look = 0; look < LOOKS; look++)
      expect(contrast(value(text, colourOf(look)), value(text, "--surface")), colourOf(look)).toBeGreaterThan(3);
  });
  test("dashes alone tell all lines apart", () => {
    expect(new Set(Array.from({ length: LOOKS }, (_, look) => dashOf(look).join())).size).toBe(LOOKS);
  });
});

describe("charts in words", () => {
  test("a summary tells where a line begins, ends and turns, and that it has gaps", () => {
    expect(
      chartSummary("Loss", "step", [
        { label: "training", name: "train/loss", points: { xs: [1, 2, 3], values: [2, Number.NaN, 0.5] } },
      ]),
    ).toBe(
      "Loss, step 1 to step 3: training from 2.0000 to 0.5000, lowest 0.5000, highest 2.0000, with gaps where it was no number.",
    );
    expect(chartSummary("Loss", "time", [])).toBe("Loss: nothing was measured yet.");
  });
  test("a gap is told, and what was never measured too", () => {
    expect(cellText("x", null)).toBe("not a number");
    expect(cellText("x", undefined)).toBe("–");
    expect(cellText("gpu0/utilization_percent", 45.4)).toBe("45 %");
  });
});

function contrast(a: string, b: string): number {
  const [high = 0, low = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

function luminance(hex: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
