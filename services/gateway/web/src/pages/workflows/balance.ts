// What a dataset's report says, in words and shares. Pure.
import { integer } from "../../format";
import {
  type ClassCount,
  type DatasetProblem,
  type DatasetReport,
  Task,
} from "../../gen/protos/training/v1/training_pb";

export interface ClassBar {
  readonly name: string;
  readonly count: number;
  /** Of the most frequent class; 0 to 1. */
  readonly share: number;
  /** `120 images, 340 objects`. */
  readonly words: string;
}

/** The balance of the classes: by images, by objects (detection), by pixels (segmentation). */
export function classBars(report: DatasetReport): ClassBar[] {
  const counts = report.classes.map((one) => Number(counted(report.task, one)));
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  return report.classes.map((one, index) => {
    const count = counts[index] ?? 0;
    return { name: one.name, count, share: most > 0 ? count / most : 0, words: inWords(report.task, one) };
  });
}

function counted(task: Task, one: ClassCount): bigint {
  if (task === Task.DETECTION) return one.objects;
  return task === Task.SEGMENTATION ? one.pixels : one.images;
}

function inWords(task: Task, one: ClassCount): string {
  const images = `${integer(one.images)} image${one.images === 1n ? "" : "s"}`;
  if (task === Task.DETECTION) return `${images}, ${integer(one.objects)} object${one.objects === 1n ? "" : "s"}`;
  return task === Task.SEGMENTATION ? `${images}, ${integer(one.pixels)} pixels` : images;
}

/** `64 × 64`, `64 × 48 to 640 × 480`; empty where nothing could be read. */
export function pixelSizes(report: DatasetReport): string {
  if (report.maxWidth === 0) return "";
  const smallest = `${integer(report.minWidth)} × ${integer(report.minHeight)}`;
  const largest = `${integer(report.maxWidth)} × ${integer(report.maxHeight)}`;
  return smallest === largest ? smallest : `${smallest} to ${largest}`;
}

/** `labels/001.txt:3`; empty for the dataset as a whole. */
export function place(problem: DatasetProblem): string {
  return problem.line > 0 ? `${problem.path}:${problem.line}` : problem.path;
}
