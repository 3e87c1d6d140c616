import { cleanup, render } from "@testing-library/preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Rows } from "../src/ui/rows";

const HEIGHT = 20;
const WINDOW = 400;

// No layout is made here: sizes are what they would be.
beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, "offsetHeight", "get").mockImplementation(function (this: HTMLElement) {
    return this.tagName === "LI" ? HEIGHT : WINDOW;
  });
  vi.spyOn(HTMLElement.prototype, "offsetWidth", "get").mockReturnValue(600);
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(WINDOW);
  vi.spyOn(HTMLElement.prototype, "scrollHeight", "get").mockReturnValue(10_000 * HEIGHT);
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
});

const numbers = (count: number) => Array.from({ length: count }, (_, index) => `row ${index}`);

function list(items: readonly string[], more: { onEnd?: () => void; reveal?: string } = {}) {
  return (
    <Rows label="Things" items={items} keyOf={(item) => item} height={HEIGHT} window={`${WINDOW}px`} {...more}>
      {(item) => <span>{item}</span>}
    </Rows>
  );
}

test("of ten thousand rows only those in sight exist, and the list is as long as all of them", () => {
  const { container, getByText } = render(list(numbers(10_000)));
  const rows = container.querySelectorAll("li");
  expect(rows.length).toBeGreaterThanOrEqual(WINDOW / HEIGHT);
  expect(rows.length).toBeLessThan(60);
  expect(getByText("row 0")).toBeTruthy();
  expect(container.querySelector("ol")?.style.height).toBe(`${10_000 * HEIGHT}px`);
});

test("the next page is asked for where the end comes near, and only there", () => {
  const onEnd = vi.fn();
  const { rerender } = render(list(numbers(1_000), { onEnd }));
  expect(onEnd).not.toHaveBeenCalled();
  rerender(list(numbers(30), { onEnd }));
  expect(onEnd).toHaveBeenCalledTimes(1);
  rerender(list(numbers(30), { onEnd }));
  expect(onEnd).toHaveBeenCalledTimes(1);
  rerender(list(numbers(40), { onEnd }));
  expect(onEnd).toHaveBeenCalledTimes(2);
});

test("an empty list asks for nothing", () => {
  const onEnd = vi.fn();
  render(list([], { onEnd }));
  expect(onEnd).not.toHaveBeenCalled();
});

test("a row that is to be revealed is scrolled to once, also where it comes later", () => {
  const scrollTo = vi.spyOn(Element.prototype, "scrollTo").mockImplementation(() => {});
  const { rerender } = render(list(numbers(100), { reveal: "row 500" }));
  const lowest = () => Math.max(0, ...scrollTo.mock.calls.map(([options]) => (options as ScrollToOptions).top ?? 0));
  expect(lowest()).toBe(0);
  rerender(list(numbers(1_000), { reveal: "row 500" }));
  expect(lowest()).toBeGreaterThan(500 * HEIGHT - WINDOW);
  expect(lowest()).toBeLessThan(500 * HEIGHT + WINDOW);
  scrollTo.mockClear();
  rerender(list([...numbers(1_000), "one more"], { reveal: "row 500" }));
  expect(lowest()).toBe(0);
});
