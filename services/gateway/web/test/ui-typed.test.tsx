import { act, cleanup, renderHook } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { useTyped } from "../src/ui/typed";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

function typing(value: string) {
  const told: string[] = [];
  const hook = renderHook(({ value }) => useTyped(value, (text) => told.push(text)), { initialProps: { value } });
  const type = (text: string) => act(() => hook.result.current[1](text));
  const wait = (ms: number) => act(() => void vi.advanceTimersByTime(ms));
  return { hook, told, type, wait };
}

test("is told once, after the last letter", async () => {
  const { told, type, wait } = typing("");
  for (const text of ["a", "ab", "abc"]) {
    await type(text);
    await wait(200);
  }
  expect(told).toEqual([]);
  await wait(100);
  expect(told).toEqual(["abc"]);
});

test("takes over a value that changes otherwise, and tells nothing then", async () => {
  const { hook, told, type, wait } = typing("");
  await type("a");
  hook.rerender({ value: "rn_1" });
  await wait(500);
  expect(hook.result.current[0]).toBe("rn_1");
  expect(told).toEqual([]);
});

test("loses no letter that comes while the last word is on its way", async () => {
  const { hook, told, type, wait } = typing("");
  await type("a");
  await wait(250);
  await type("ab");
  hook.rerender({ value: "a" });
  expect(hook.result.current[0]).toBe("ab");
  await wait(250);
  expect(told).toEqual(["a", "ab"]);
});
