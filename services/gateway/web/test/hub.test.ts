import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type Connect,
  type Failure,
  type Listener,
  SILENCE_MS,
  StreamHub,
  TURN_MS,
  type Wanted,
} from "../src/live/hub";

/** A platform that a test speaks for: every stream that is open, by the name of what is watched. */
class Platform {
  readonly opened: string[] = [];
  most = 0;
  private readonly streams = new Map<string, { say: (text: string) => void; end: (error?: unknown) => void }>();

  readonly connect: Connect = (wanted, signal, onMessage) => {
    const name = wanted.method;
    this.opened.push(name);
    return new Promise((resolve, reject) => {
      const finish = (act: () => void) => {
        this.streams.delete(name);
        act();
      };
      this.streams.set(name, {
        say: (text) => onMessage(new TextEncoder().encode(text)),
        end: (error) => finish(() => (error === undefined ? resolve() : reject(error))),
      });
      this.most = Math.max(this.most, this.streams.size);
      signal.addEventListener("abort", () => finish(() => reject(new Error("aborted"))));
    });
  };

  get open(): string[] {
    return [...this.streams.keys()].sort();
  }

  say(name: string, text: string): void {
    this.streams.get(name)?.say(text);
  }

  async end(name: string, error?: unknown): Promise<void> {
    this.streams.get(name)?.end(error);
    await vi.advanceTimersByTimeAsync(0);
  }
}

class Reader implements Listener {
  readonly heard: string[] = [];
  readonly failures: Failure[] = [];
  reset = () => void this.heard.push("reset");
  message = (bytes: Uint8Array) => void this.heard.push(new TextDecoder().decode(bytes));
  failed = (failure: Failure) => void this.failures.push(failure);
}

const wanted = (method: string, request = ""): Wanted => ({ method, request: new TextEncoder().encode(request) });
const LOST = { sentence: "lost", retrying: true, signedOut: false };
const REFUSED = { sentence: "refused", retrying: false, signedOut: false };

let platform: Platform;
let links: boolean[];
let hub: StreamHub;

beforeEach(() => {
  vi.useFakeTimers();
  platform = new Platform();
  links = [];
  hub = new StreamHub({
    connect: platform.connect,
    judge: (error) => error as Failure,
    onLink: (up) => links.push(up),
    random: () => 1,
    streams: 2,
  });
});
afterEach(() => vi.useRealTimers());

describe("sharing", () => {
  test("tabs that watch the same share one stream, and the newcomer is told everything from the start", () => {
    const [first, second] = [new Reader(), new Reader()];
    hub.open(wanted("runners"), first);
    platform.say("runners", "all");
    hub.open(wanted("runners"), second);
    expect(platform.open).toEqual(["runners"]);
    platform.say("runners", "all again");
    expect(second.heard).toEqual(["reset", "all again"]);
    expect(first.heard).toEqual(["reset", "all", "reset", "all again"]);
  });

  test("another request is another stream", () => {
    hub.open(wanted("logs", "job 1"), new Reader());
    hub.open(wanted("logs", "job 2"), new Reader());
    expect(platform.opened).toEqual(["logs", "logs"]);
  });

  test("a stream ends with its last listener, not before", () => {
    const leave = [hub.open(wanted("runners"), new Reader()), hub.open(wanted("runners"), new Reader())];
    leave[0]?.();
    expect(platform.open).toEqual(["runners"]);
    leave[1]?.();
    expect(platform.open).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("who left hears nothing more, whatever still comes", () => {
    const [stays, leaves] = [new Reader(), new Reader()];
    hub.open(wanted("runners"), stays);
    const leave = hub.open(wanted("runners"), leaves);
    leave();
    platform.say("runners", "news");
    expect(leaves.heard).toEqual([]);
    expect(stays.heard).toEqual(["reset", "news"]);
  });
});

describe("turns", () => {
  test("never more streams than the browser has connections for, and each that is wanted gets its turn", async () => {
    const names = ["a", "b", "c", "d", "e"];
    const readers = names.map((name) => {
      const reader = new Reader();
      hub.open(wanted(name), reader);
      return reader;
    });
    for (let turn = 0; turn < 2 * names.length; turn++) {
      for (const name of platform.open) platform.say(name, name);
      await vi.advanceTimersByTimeAsync(TURN_MS);
    }
    expect(platform.most).toBe(2);
    for (const [n, reader] of readers.entries()) expect(reader.heard).toContain(names[n]);
  });

  test("nobody gives up a place that nobody waits for", async () => {
    hub.open(wanted("a"), new Reader());
    hub.open(wanted("b"), new Reader());
    await vi.advanceTimersByTimeAsync(3 * TURN_MS);
    expect(platform.opened).toEqual(["a", "b"]);
  });

  test("a place that becomes free goes to the one that waits, at once", () => {
    const leave = hub.open(wanted("a"), new Reader());
    hub.open(wanted("b"), new Reader());
    hub.open(wanted("c"), new Reader());
    leave();
    expect(platform.open).toEqual(["b", "c"]);
  });
});

describe("failures", () => {
  test("a stream that failed is tried again, later each time, and at least each ten seconds", async () => {
    hub.open(wanted("runners"), new Reader());
    const waits: number[] = [];
    for (let n = 0; n < 8; n++) {
      await platform.end("runners", LOST);
      const before = platform.opened.length;
      let waited = 0;
      while (platform.opened.length === before) {
        await vi.advanceTimersByTimeAsync(100);
        waited += 100;
      }
      waits.push(waited);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
  });

  test("what was refused for good is told and not asked again", async () => {
    const reader = new Reader();
    hub.open(wanted("metrics"), reader);
    await platform.end("metrics", REFUSED);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(reader.failures).toEqual([REFUSED]);
    expect(platform.opened).toEqual(["metrics"]);
    expect(links).toEqual([]);
  });

  test("a newcomer is told of a refusal too", async () => {
    hub.open(wanted("metrics"), new Reader());
    await platform.end("metrics", REFUSED);
    const newcomer = new Reader();
    hub.open(wanted("metrics"), newcomer);
    await platform.end("metrics", REFUSED);
    expect(newcomer.failures).toEqual([REFUSED]);
  });

  test("a silent stream is given up: the platform speaks every fifteen seconds", async () => {
    const reader = new Reader();
    hub.open(wanted("runners"), reader);
    platform.say("runners", "all");
    await vi.advanceTimersByTimeAsync(SILENCE_MS - 1);
    platform.say("runners", "");
    await vi.advanceTimersByTimeAsync(SILENCE_MS - 1);
    expect(platform.opened).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1 + 500);
    expect(platform.opened).toHaveLength(2);
    expect(reader.failures).toHaveLength(1);
  });

  test("the platform is lost once and found once, however many streams there are", async () => {
    hub.open(wanted("a"), new Reader());
    hub.open(wanted("b"), new Reader());
    await platform.end("a", LOST);
    await platform.end("b", LOST);
    expect(links).toEqual([false]);
    await vi.advanceTimersByTimeAsync(500);
    platform.say("a", "back");
    platform.say("b", "back");
    expect(links).toEqual([false, true]);
  });

  test("one service that is down is not the platform: others are heard", async () => {
    hub.open(wanted("runners"), new Reader());
    platform.say("runners", "all");
    const reader = new Reader();
    hub.open(wanted("metrics"), reader);
    await platform.end("metrics", LOST);
    platform.say("runners", "news");
    expect(links).toEqual([]);
    expect(reader.failures).toEqual([LOST]);
    await platform.end("runners", LOST);
    expect(links).toEqual([false]);
    expect(hub.linked).toBe(false);
  });

  test("a stream that the server ended in good order is opened again without an alarm", async () => {
    const reader = new Reader();
    hub.open(wanted("runners"), reader);
    platform.say("runners", "all");
    await platform.end("runners");
    await vi.advanceTimersByTimeAsync(500);
    platform.say("runners", "all again");
    expect(links).toEqual([]);
    expect(reader.failures).toEqual([]);
    expect(reader.heard).toEqual(["reset", "all", "reset", "all again"]);
  });

  test("what was shown stays until something newer has come", async () => {
    const reader = new Reader();
    hub.open(wanted("runners"), reader);
    platform.say("runners", "all");
    await platform.end("runners", LOST);
    await vi.advanceTimersByTimeAsync(500);
    expect(reader.heard).toEqual(["reset", "all"]);
  });

  test("one who cannot wait is tried at once", async () => {
    hub.open(wanted("runners"), new Reader());
    await platform.end("runners", LOST);
    hub.hurry();
    expect(platform.opened).toHaveLength(2);
  });

  test("another session begins every stream anew", async () => {
    hub.open(wanted("a"), new Reader());
    const refused = new Reader();
    hub.open(wanted("b"), refused);
    await platform.end("b", REFUSED);
    hub.restart();
    await vi.advanceTimersByTimeAsync(0);
    expect(platform.opened).toEqual(["a", "b", "a", "b"]);
    expect(platform.open).toEqual(["a", "b"]);
  });
});
