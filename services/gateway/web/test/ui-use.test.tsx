import { Code, ConnectError } from "@connectrpc/connect";
import { act, cleanup, renderHook } from "@testing-library/preact";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { UNREACHABLE } from "../src/api/errors";
import { useAction, useAsked, useRequestId } from "../src/ui/use";

/** A question whose answers a test gives when it likes. */
class Question {
  readonly asked: {
    input: string;
    signal: AbortSignal;
    answer: (value: string) => void;
    fail: (e: unknown) => void;
  }[] = [];

  ask = (input: string) => (signal: AbortSignal) =>
    new Promise<string>((answer, fail) => void this.asked.push({ input, signal, answer, fail }));

  async answer(at: number, value: string): Promise<void> {
    await act(async () => this.asked[at]?.answer(value));
  }

  async fail(at: number, error: unknown): Promise<void> {
    await act(async () => this.asked[at]?.fail(error));
  }
}

const LOST = new ConnectError("no healthy upstream", Code.Unavailable);
let question: Question;

function asking(input: string) {
  return renderHook(({ input }) => useAsked(question.ask(input), [input]), { initialProps: { input } });
}

beforeEach(() => {
  vi.useFakeTimers();
  question = new Question();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

describe("useAsked", () => {
  test("an answer that comes after the question changed never wins", async () => {
    const hook = asking("a");
    hook.rerender({ input: "b" });
    expect(question.asked.map((one) => [one.input, one.signal.aborted])).toEqual([
      ["a", true],
      ["b", false],
    ]);
    await question.answer(1, "of b");
    await question.answer(0, "of a");
    expect(hook.result.current.value).toBe("of b");
  });

  test("a failure that comes after the question changed is not told", async () => {
    const hook = asking("a");
    hook.rerender({ input: "b" });
    await question.fail(0, LOST);
    expect(hook.result.current.problem).toBe("");
    await act(async () => void vi.advanceTimersByTime(10_000));
    expect(question.asked).toHaveLength(2);
  });

  test("the last answer stays while it is asked again, and where that fails", async () => {
    const hook = asking("a");
    expect(hook.result.current).toMatchObject({ value: undefined, loading: true });
    await question.answer(0, "first");
    expect(hook.result.current).toMatchObject({ value: "first", loading: false });
    act(() => hook.result.current.reload());
    expect(hook.result.current).toMatchObject({ value: "first", loading: true });
    await question.fail(1, new ConnectError("that month has not begun", Code.InvalidArgument));
    expect(hook.result.current).toMatchObject({ value: "first", problem: "That month has not begun", loading: false });
  });

  test("a platform that does not answer is asked again after a while; one that refuses is not", async () => {
    const hook = asking("a");
    await question.fail(0, LOST);
    expect(hook.result.current.problem).toBe(UNREACHABLE);
    await act(async () => void vi.advanceTimersByTime(3_000));
    expect(question.asked).toHaveLength(2);
    await question.fail(1, new ConnectError("not yours", Code.PermissionDenied));
    await act(async () => void vi.advanceTimersByTime(60_000));
    expect(question.asked).toHaveLength(2);
  });

  test("a component that goes away gives its call up and asks nothing more", async () => {
    const hook = asking("a");
    await question.fail(0, LOST);
    hook.unmount();
    await act(async () => void vi.advanceTimersByTime(60_000));
    expect(question.asked).toHaveLength(1);
    const second = asking("b");
    second.unmount();
    // Cleaning up may wait until the next picture was drawn.
    await act(async () => void vi.advanceTimersByTime(200));
    expect(question.asked[1]?.signal.aborted).toBe(true);
  });
});

describe("useAction", () => {
  test("is busy until it is done, and tells the sentence where it is refused", async () => {
    const hook = renderHook(() => useAction());
    const question = new Question();
    let done: Promise<boolean> | undefined;
    act(() => {
      done = hook.result.current.run(() => question.ask("")(new AbortController().signal));
    });
    expect(hook.result.current.busy).toBe(true);
    await act(async () => question.asked[0]?.fail(new ConnectError("the name is taken", Code.AlreadyExists)));
    expect(await done).toBe(false);
    expect(hook.result.current).toMatchObject({ busy: false, problem: "The name is taken" });
    await act(async () => void (await hook.result.current.run(async () => "fine")));
    expect(hook.result.current.problem).toBe("");
  });
});

describe("useRequestId", () => {
  test("is the same for a repeat and another for anything else, back to the first as well", () => {
    const hook = renderHook(({ content }) => useRequestId(content), { initialProps: { content: "5" } });
    const first = hook.result.current;
    expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    hook.rerender({ content: "5" });
    expect(hook.result.current).toBe(first);
    hook.rerender({ content: "6" });
    expect(hook.result.current).not.toBe(first);
  });
});
