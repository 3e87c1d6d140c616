// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { platformNow, setPlatformTime } from "../src/time";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("time is told by the platform's clock, whatever this computer's says", () => {
  vi.setSystemTime(5_000_000);
  // Asked at 4,999,900 and answered at 5,000,000: the platform said its time in the middle.
  setPlatformTime(8_600_000, 4_999_900, 5_000_000);
  expect(platformNow()).toBe(8_600_050);
  vi.setSystemTime(5_060_000);
  expect(platformNow()).toBe(8_660_050);
});

test("a platform that tells no time changes nothing", () => {
  vi.setSystemTime(1_000);
  setPlatformTime(2_000, 1_000, 1_000);
  setPlatformTime(0, 1_000, 1_000);
  expect(platformNow()).toBe(2_000);
});
