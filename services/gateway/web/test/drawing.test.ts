import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AnnotationSchema, BoxSchema, type LabelMap, LabelMapSchema } from "../src/gen/protos/metrics/v1/preview_pb";
import {
  annotationWords,
  classShares,
  decodeRuns,
  match,
  NOT_LABELLED,
  occurring,
  overlap,
  pixelsRight,
  verdict,
} from "../src/pages/trainings/drawing";

const map = (width: number, height: number, ...runs: [classIndex: number, length: number][]): LabelMap =>
  create(LabelMapSchema, { width, height, classes: runs.map(([c]) => c), lengths: runs.map(([, n]) => n) });

const box = (left: number, top: number, right: number, bottom: number, classIndex = 0, confidence = 1) =>
  create(BoxSchema, { left, top, right, bottom, classIndex, confidence });

describe("label maps", () => {
  test("runs go on over the end of a row", () => {
    expect([...decodeRuns(map(3, 2, [0, 2], [7, 3], [1, 1]))]).toEqual([0, 0, 7, 7, 7, 1]);
  });
  test("what runs do not cover is not labelled, what is too much is left out", () => {
    expect([...decodeRuns(map(2, 2, [3, 1]))]).toEqual([3, NOT_LABELLED, NOT_LABELLED, NOT_LABELLED]);
    expect([...decodeRuns(map(1, 2, [3, 1], [4, 100]))]).toEqual([3, 4]);
  });
  test("shares of classes add up to one, the largest first", () => {
    const shares = classShares(map(4, 1, [1, 1], [2, 2], [1, 1]));
    expect(shares.map(([, share]) => share).reduce((a, b) => a + b)).toBe(1);
    expect(classShares(map(4, 1, [1, 1], [2, 3]))[0]).toEqual([2, 0.75]);
  });
  test("pixels without a label count neither as right nor as wrong", () => {
    expect(pixelsRight(map(2, 2, [1, 2], [NOT_LABELLED, 2]), map(2, 2, [1, 1], [0, 3]))).toBe(0.5);
    expect(pixelsRight(map(1, 1, [NOT_LABELLED, 1]), map(1, 1, [0, 1]))).toBeNaN();
  });
  test("by runs the same as pixel by pixel", () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    const any = (): LabelMap => {
      const runs: [number, number][] = [];
      for (let left = 60; left > 0; ) {
        const length = Math.min(1 + random(9), left);
        runs.push([[0, 1, 2, NOT_LABELLED][random(4)] ?? 0, length]);
        left -= length;
      }
      return map(10, 6, ...runs);
    };
    for (let round = 0; round < 200; round++) {
      const [truth, found] = [any(), any()];
      const [is, said] = [decodeRuns(truth), decodeRuns(found)];
      const labelled = [...is.keys()].filter((at) => is[at] !== NOT_LABELLED);
      const right = labelled.filter((at) => is[at] === said[at]).length;
      expect(pixelsRight(truth, found)).toBe(right / labelled.length);
    }
  });
  test("a prediction whose runs end early is wrong from there on", () => {
    expect(pixelsRight(map(2, 2, [1, 4]), map(2, 2, [1, 1]))).toBe(0.25);
  });
  test("a coarser prediction is held against the finer truth", () => {
    expect(pixelsRight(map(4, 4, [0, 8], [1, 8]), map(2, 2, [0, 2], [1, 2]))).toBe(1);
    expect(pixelsRight(map(4, 4, [0, 8], [1, 8]), map(2, 2, [0, 4]))).toBe(0.5);
  });
});

describe("boxes", () => {
  test("overlap is one with itself, symmetric, and zero apart", () => {
    const [a, b] = [box(0, 0, 0.4, 0.4), box(0.2, 0, 0.6, 0.4)];
    expect(overlap(a, a)).toBeCloseTo(1);
    expect(overlap(a, b)).toBeCloseTo(1 / 3);
    expect(overlap(b, a)).toBe(overlap(a, b));
    expect(overlap(a, box(0.5, 0.5, 1, 1))).toBe(0);
    expect(overlap(box(0, 0, 0, 0), box(0, 0, 0, 0))).toBe(0);
  });
  test("an object is found once, by its class, from the threshold on", () => {
    const truth = [box(0, 0, 0.5, 0.5, 1), box(0.5, 0.5, 1, 1, 2)];
    const twice = [box(0, 0, 0.5, 0.5, 1, 0.9), box(0, 0, 0.5, 0.5, 1, 0.8)];
    expect(match(truth, twice, 0.25)).toEqual({ found: 1, missed: 1, spare: 1 });
    expect(match(truth, twice, 0.85)).toEqual({ found: 1, missed: 1, spare: 0 });
    expect(match(truth, [box(0, 0, 0.5, 0.5, 2, 0.9)], 0.25)).toEqual({ found: 0, missed: 2, spare: 1 });
  });
});

test("an annotation in words, by what it is of", () => {
  const names = ["cat", "dog"];
  const boxes = [box(0, 0, 1, 1, 1, 0.9), box(0, 0, 1, 1, 1, 0.5), box(0, 0, 1, 1, 0, 0.1)];
  expect(annotationWords(create(AnnotationSchema, { boxes }), names)).toBe("2 dog");
  expect(annotationWords(create(AnnotationSchema, { labels: [{ classIndex: 1, confidence: 1 }] }), names)).toBe("dog");
  expect(annotationWords(create(AnnotationSchema, { labelMap: map(4, 1, [0, 3], [255, 1]) }), names)).toBe(
    "cat 75 %, not labelled 25 %",
  );
  expect(occurring([create(AnnotationSchema, { boxes })], 0.25)).toEqual([1]);
});

describe("verdicts", () => {
  const labels = (...indices: number[]) =>
    create(AnnotationSchema, { labels: indices.map((classIndex) => ({ classIndex, confidence: 0.5 })) });
  test("a classification is right by its likeliest class", () => {
    expect(verdict(labels(1), labels(1, 0), ["cat", "dog"])?.right).toBe(true);
    expect(verdict(labels(1), labels(0, 1), ["cat", "dog"])).toEqual({
      right: false,
      words: "wrong: dog taken for cat",
    });
  });
  test("a detection is right where nothing is missed and nothing is too many", () => {
    const truth = create(AnnotationSchema, { boxes: [box(0, 0, 1, 1)] });
    expect(verdict(truth, truth, [])).toEqual({ right: true, words: "1 of 1 found" });
    expect(verdict(truth, create(AnnotationSchema, {}), [])).toEqual({ right: false, words: "0 of 1 found" });
    const none = create(AnnotationSchema, {});
    expect(verdict(none, none, [])?.right).toBe(true);
    expect(verdict(none, truth, [])).toEqual({ right: false, words: "nothing to find, 1 too many" });
  });
  test("there is none without a prediction", () => {
    expect(verdict(labels(1), undefined, [])).toBeUndefined();
    expect(verdict(labels(1), create(AnnotationSchema, {}), [])).toBeUndefined();
  });
});
