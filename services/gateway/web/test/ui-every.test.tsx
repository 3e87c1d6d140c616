import { act, cleanup, renderHook } from "@testing-library/preact";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { useEvery } from "../src/ui/use";

let hidden = false;
const asked = vi.fn();

function look(to: boolean): void {
  hidden = to;
  document.dispatchEvent(new Event("visibilitychange"));
}

const every = (ms: number, underWay = false) =>
  renderHook(({ ms, underWay }) => useEvery(ms, asked, underWay), { initialProps: { ms, underWay } });
const pass = (ms: number) => act(() => void vi.advanceTimersByTime(ms));

beforeEach(() => {
  vi.useFakeTimers();
  asked.mockReset();
  hidden = false;
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe("useEvery", () => {
  test("asks each time, and never where it is not wanted", () => {
    const hook = every(1000);
    pass(3000);
    expect(asked).toHaveBeenCalledTimes(3);
    hook.rerender({ ms: 0, underWay: false });
    pass(60_000);
    expect(asked).toHaveBeenCalledTimes(3);
  });

  test("waits for a slow answer instead of asking over it", () => {
    const hook = every(1000, true);
    pass(30_000);
    expect(asked).not.toHaveBeenCalled();
    hook.rerender({ ms: 1000, underWay: false });
    pass(1000);
    expect(asked).toHaveBeenCalledTimes(1);
  });

  test("a hidden page asks nothing, and once at once when it is seen again", () => {
    every(1000);
    look(true);
    pass(60_000);
    expect(asked).not.toHaveBeenCalled();
    look(false);
    expect(asked).toHaveBeenCalledTimes(1);
  });

  test("a page that was hidden for a moment only has missed nothing", () => {
    every(1000);
    look(true);
    pass(500);
    look(false);
    expect(asked).not.toHaveBeenCalled();
  });

  test("a page that is gone asks nothing more", () => {
    const hook = every(1000);
    look(true);
    pass(2000);
    hook.unmount();
    pass(200);
    look(false);
    pass(60_000);
    expect(asked).not.toHaveBeenCalled();
  });
});
