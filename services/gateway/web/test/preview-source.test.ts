// @vitest-environment happy-dom
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GetPreviewResponseSchema } from "../src/gen/protos/metrics/v1/evaluation_pb";
import { PreviewSource } from "../src/pages/trainings/preview-source";

const living = new Set<string>();
beforeEach(() => {
  let made = 0;
  vi.spyOn(URL, "createObjectURL").mockImplementation(() => {
    const url = `blob:${++made}`;
    living.add(url);
    return url;
  });
  vi.spyOn(URL, "revokeObjectURL").mockImplementation((url) => void living.delete(url));
});
afterEach(() => {
  vi.restoreAllMocks();
  living.clear();
});

/** A platform with previews of these steps; `paths` are the images of each. */
function platform(paths: Record<number, string[]>) {
  const asked: [step: number, pixels: boolean][] = [];
  const steps = Object.keys(paths).map(Number);
  const getPreview = async (request: { step?: bigint; withoutPixels?: boolean }) => {
    const step = Number(request.step) || (steps.at(-1) ?? 0);
    asked.push([Number(request.step), !request.withoutPixels]);
    const jpeg = request.withoutPixels ? new Uint8Array() : Uint8Array.of(255, 216, 255);
    return create(GetPreviewResponseSchema, {
      step: BigInt(step),
      steps: steps.map(BigInt),
      classes: ["cat"],
      images: (paths[step] ?? []).map((path, number) => ({ number, path, width: 8, height: 8, jpeg })),
      // In another order than the images.
      predictions: (paths[step] ?? [])
        .map((_, number) => ({ number, annotation: { labels: [{ classIndex: number, confidence: 0.5 }] } }))
        .reverse(),
    });
  };
  return { api: { getPreview } as unknown as ConstructorParameters<typeof PreviewSource>[1], asked };
}

test("pixels come once, and each step is asked for once", async () => {
  const { api, asked } = platform({ 10: ["a", "b"], 20: ["a", "b"] });
  const source = new PreviewSource("jb_1", api);
  const newest = await source.at(0);
  const earlier = await source.at(10);
  await source.at(10);
  await source.at(20);
  expect(asked).toEqual([
    [0, true],
    [10, false],
  ]);
  expect(newest.step).toBe(20);
  expect(newest.steps).toEqual([10, 20]);
  expect(earlier.shots.map((shot) => shot.url)).toEqual(newest.shots.map((shot) => shot.url));
  expect(living.size).toBe(2);
});

test("a prediction belongs to the image of its number", async () => {
  const source = new PreviewSource("jb_1", platform({ 10: ["a", "b", "c"] }).api);
  const { shots } = await source.at(0);
  expect(shots.map((shot) => shot.found?.labels[0]?.classIndex)).toEqual([0, 1, 2]);
});

test("images that are not known yet, as of another attempt, are asked for with their pixels", async () => {
  const { api, asked } = platform({ 10: ["a"], 20: ["other"] });
  const source = new PreviewSource("jb_1", api);
  await source.at(0);
  const { shots } = await source.at(10);
  expect(asked.slice(1)).toEqual([
    [10, false],
    [10, true],
  ]);
  expect(shots[0]?.url).not.toBe("");
});

test("nothing is left in memory once it is closed, whatever comes later", async () => {
  const source = new PreviewSource("jb_1", platform({ 10: ["a"], 20: ["b"] }).api);
  await source.at(0);
  const late = source.at(10);
  source.close();
  expect((await late).shots[0]?.url).toBe("");
  expect(living.size).toBe(0);
});
