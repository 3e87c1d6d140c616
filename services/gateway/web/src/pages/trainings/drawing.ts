// What is drawn over a preview image, computed without drawing: label maps, colours, and who was right. Pure.
import type { Annotation, Box, LabelMap } from "../../gen/protos/metrics/v1/preview_pb";

/** Class of pixels that nobody has labelled. */
export const NOT_LABELLED = 255;
/** A box counts from here on, as in the confusion matrix and on the command line. */
export const SURE = 0.25;
/** Intersection over union from which on two boxes are about the same object. */
const SAME_OBJECT = 0.5;
/** Share of right pixels below which an image counts as wrong. */
export const RIGHT_PIXELS = 0.9;

/** Class of each pixel, row by row; what runs do not cover is not labelled, what lies beyond the map is left out. */
export function decodeRuns(map: LabelMap): Uint8Array {
  const pixels = new Uint8Array(Math.max(map.width * map.height, 0)).fill(NOT_LABELLED);
  let at = 0;
  for (const [run, index] of map.classes.entries()) {
    const end = at + (map.lengths[run] ?? 0);
    pixels.fill(index, at, end);
    at = end;
  }
  return pixels;
}

/** Share of the pixels of each class, the largest first. */
export function classShares(map: LabelMap): [classIndex: number, share: number][] {
  const found = new Map<number, number>();
  let total = 0;
  for (const [run, index] of map.classes.entries()) {
    const length = map.lengths[run] ?? 0;
    found.set(index, (found.get(index) ?? 0) + length);
    total += length;
  }
  return [...found].map(([index, length]): [number, number] => [index, length / total]).sort((a, b) => b[1] - a[1]);
}

/** Share of the labelled pixels that are predicted right; maps may differ in how fine they are. NaN: none is labelled. */
export function pixelsRight(truth: LabelMap, found: LabelMap): number {
  return truth.width === found.width && truth.height === found.height
    ? runsRight(truth, found)
    : pixelByPixel(truth, found);
}

/** Of maps of one size: run by run, as large maps have few of them. */
function runsRight(truth: LabelMap, found: LabelMap): number {
  let [right, labelled, other, otherEnd, at] = [0, 0, -1, 0, 0];
  for (const [run, index] of truth.classes.entries()) {
    const end = at + (truth.lengths[run] ?? 0);
    while (at < end) {
      if (at >= otherEnd) {
        other += 1;
        const length = found.lengths[other];
        otherEnd = length === undefined ? Number.POSITIVE_INFINITY : otherEnd + length;
        continue;
      }
      const until = Math.min(end, otherEnd);
      if (index !== NOT_LABELLED) {
        labelled += until - at;
        if (found.classes[other] === index) right += until - at;
      }
      at = until;
    }
  }
  return right / labelled;
}

function pixelByPixel(truth: LabelMap, found: LabelMap): number {
  const [is, said] = [decodeRuns(truth), decodeRuns(found)];
  let [right, labelled] = [0, 0];
  for (let y = 0; y < truth.height; y++) {
    const row = Math.floor((y * found.height) / truth.height) * found.width;
    for (let x = 0; x < truth.width; x++) {
      const index = is[y * truth.width + x];
      if (index === NOT_LABELLED) continue;
      labelled += 1;
      if (said[row + Math.floor((x * found.width) / truth.width)] === index) right += 1;
    }
  }
  return right / labelled;
}

/** Intersection over union of two boxes, 0 to 1. */
export function overlap(a: Box, b: Box): number {
  const area = (box: Box) => Math.max(box.right - box.left, 0) * Math.max(box.bottom - box.top, 0);
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  const shared = Math.max(width, 0) * Math.max(height, 0);
  return shared > 0 ? shared / (area(a) + area(b) - shared) : 0;
}

export interface Matched {
  /** Objects that were found with their class. */
  readonly found: number;
  readonly missed: number;
  /** Predictions of what is not there, or is something else. */
  readonly spare: number;
}

/** Sets predictions against objects: each finds at most one of its own class, the surest first. */
export function match(truth: readonly Box[], predicted: readonly Box[], sure: number): Matched {
  const left = new Set(truth);
  const counted = predicted.filter((box) => box.confidence >= sure).sort((a, b) => b.confidence - a.confidence);
  let found = 0;
  for (const box of counted) {
    let [best, most] = [undefined as Box | undefined, SAME_OBJECT];
    for (const object of left) {
      const shared = object.classIndex === box.classIndex ? overlap(object, box) : 0;
      if (shared >= most) [best, most] = [object, shared];
    }
    if (best === undefined) continue;
    left.delete(best);
    found += 1;
  }
  return { found, missed: left.size, spare: counted.length - found };
}

export interface Verdict {
  readonly right: boolean;
  readonly words: string;
}

/** Whether a prediction is right, in words; undefined where there is nothing to judge. */
export function verdict(
  truth: Annotation | undefined,
  found: Annotation | undefined,
  classes: readonly string[],
  sure = SURE,
): Verdict | undefined {
  if (truth === undefined || found === undefined) return undefined;
  if (truth.labelMap !== undefined && found.labelMap !== undefined) {
    const share = pixelsRight(truth.labelMap, found.labelMap);
    if (Number.isNaN(share)) return undefined;
    return { right: share >= RIGHT_PIXELS, words: `${(share * 100).toFixed(1)} % of the pixels right` };
  }
  const [is, said] = [truth.labels[0], found.labels[0]];
  if (is !== undefined && said !== undefined) {
    if (is.classIndex === said.classIndex) return { right: true, words: "right" };
    const [name, taken] = [className(classes, is.classIndex), className(classes, said.classIndex)];
    return { right: false, words: `wrong: ${name} taken for ${taken}` };
  }
  if (truth.labels.length > 0 || truth.labelMap !== undefined) return undefined;
  const { found: hits, missed, spare } = match(truth.boxes, found.boxes, sure);
  const objects = hits + missed;
  const words = [
    objects === 0 ? "nothing to find" : `${hits} of ${objects} found`,
    spare > 0 ? `${spare} too many` : "",
  ];
  return { right: missed === 0 && spare === 0, words: words.filter(Boolean).join(", ") };
}

/** A class by its index; indices beyond the names, and pixels without a label, have words too. */
export function className(classes: readonly string[], index: number): string {
  return classes[index] ?? (index === NOT_LABELLED ? "not labelled" : `class ${index}`);
}

const MOST_NAMED = 5;

/** What is in an image, in words: `cat 93 %, dog 4 %`; `2 cat, 1 dog`; `road 61 %, sky 30 %`. */
export function annotationWords(of: Annotation | undefined, classes: readonly string[], sure = SURE): string {
  if (of === undefined) return "nothing known";
  if (of.labelMap !== undefined) {
    const shares = classShares(of.labelMap).slice(0, MOST_NAMED);
    return shares.map(([index, share]) => `${className(classes, index)} ${Math.round(share * 100)} %`).join(", ");
  }
  if (of.labels.length > 0)
    return of.labels
      .map(({ classIndex, confidence }) => {
        const name = className(classes, classIndex);
        return confidence === 1 && of.labels.length === 1 ? name : `${name} ${Math.round(confidence * 100)} %`;
      })
      .join(", ");
  const counts = new Map<number, number>();
  for (const box of of.boxes)
    if (box.confidence >= sure) counts.set(box.classIndex, (counts.get(box.classIndex) ?? 0) + 1);
  return [...counts].map(([index, many]) => `${many} ${className(classes, index)}`).join(", ") || "nothing";
}

/** Indices of the classes that occur, ascending. */
export function occurring(of: readonly (Annotation | undefined)[], sure: number): number[] {
  const found = new Set<number>();
  for (const one of of) {
    for (const label of one?.labels ?? []) found.add(label.classIndex);
    for (const box of one?.boxes ?? []) if (box.confidence >= sure) found.add(box.classIndex);
    for (const index of one?.labelMap?.classes ?? []) found.add(index);
  }
  return [...found].sort((a, b) => a - b);
}
