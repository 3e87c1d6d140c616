// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { EventRecordSchema } from "../src/gen/protos/eventlog/v1/eventlog_pb";
import { QuotaSetSchema } from "../src/gen/protos/events/v1/workspace_pb";
import { extended, found, joined, MOST } from "../src/pages/events/feed";
import { EVENT_TYPES, payloadText } from "../src/pages/events/payload";
import { isPast } from "../src/pages/events/use-feed";

const event = (position: number, more = {}) => create(EventRecordSchema, { position: BigInt(position), ...more });
const events = (...positions: number[]) => positions.map((position) => event(position));
const positions = (all: readonly { position: bigint }[]) => all.map((one) => Number(one.position));
const range = (from: number, count: number) => events(...Array.from({ length: count }, (_, index) => from + index));

describe("the window on the log", () => {
  test("is newest first, however and however often events come", () => {
    expect(positions(joined([], events(1, 2, 3)))).toEqual([3, 2, 1]);
    expect(positions(joined(events(3, 2), events(4, 5)))).toEqual([5, 4, 3, 2]);
    // A stream that begins anew tells what is known already.
    expect(positions(joined(events(5, 4, 3), events(4, 5, 6)))).toEqual([6, 5, 4, 3]);
  });

  test("gets older ones at its end, and none twice", () => {
    expect(positions(extended(events(9, 8), events(6, 7)))).toEqual([9, 8, 7, 6]);
    expect(positions(extended(events(9, 8), events(7, 8)))).toEqual([9, 8, 7]);
    expect(positions(extended([], events(1, 2)))).toEqual([2, 1]);
  });

  test("never has a hole, and never more than there may be", () => {
    const full = joined([], range(1_000, MOST));
    expect(full).toHaveLength(MOST);
    const more = joined(full, range(1_000 + MOST, 10));
    expect(more).toHaveLength(MOST);
    expect(positions(more)[0]).toBe(1_000 + MOST + 9);
    const older = extended(more, range(500, 100));
    for (const window of [more, older])
      expect(
        positions(window).every((position, index, all) => index === 0 || position === (all[index - 1] ?? 0) - 1),
      ).toBe(true);
    expect(older).toHaveLength(MOST);
  });

  test("is of the past where it is up to a moment or around a position", () => {
    expect(isPast({ untilMs: 0, around: 0n })).toBe(false);
    expect(isPast({ untilMs: 5, around: 0n })).toBe(true);
    expect(isPast({ untilMs: 0, around: 7n })).toBe(true);
  });
});

test("every word that is looked for is somewhere in the event, in whatever case", () => {
  const all = [
    event(1, { type: "JobStarted", sentence: "box-1 trains", actor: "runner:r1" }),
    event(2, { type: "JobFailed", sentence: "out of memory", streamId: "jb_9" }),
  ];
  expect(positions(found(all, "jobstarted BOX-1"))).toEqual([1]);
  expect(positions(found(all, "jb_9 memory"))).toEqual([2]);
  expect(positions(found(all, "jb_9 box-1"))).toEqual([]);
  expect(positions(found(all, "digits", (one) => (one.position === 2n ? "Digits" : "")))).toEqual([2]);
  expect(found(all, "  ")).toBe(all);
});

describe("payloads", () => {
  test("the types to choose from are those that the reference of events lists, no parts among them", () => {
    const reference = readFileSync("../../../docs/reference/events.md", "utf8");
    const events = reference.slice(0, reference.indexOf("## Parts of events"));
    const listed = [...events.matchAll(/^### (\w+)$/gm)].map((match) => match[1]);
    expect(listed.length).toBeGreaterThan(30);
    expect(EVENT_TYPES.flatMap(({ types }) => types).sort()).toEqual(listed.sort());
  });

  test("are told as JSON with the names of the protos, numbers of 64 bits whole", () => {
    const payload = anyPack(QuotaSetSchema, create(QuotaSetSchema, { quotaMilliminutes: 9_007_199_254_740_993n }));
    expect(JSON.parse(payloadText(event(1, { payload })))).toEqual({ quota_milliminutes: "9007199254740993" });
  });

  test("of a newer platform are told as bytes, and none as nothing", () => {
    const payload = { typeUrl: "type.googleapis.com/tether.events.v1.RunnerTaught", value: new Uint8Array([10, 255]) };
    expect(payloadText(event(1, { payload }))).toBe("0a ff");
    expect(payloadText(event(1))).toBe("{}");
  });
});
