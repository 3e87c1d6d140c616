// Keeps the watch streams of every tab. A browser opens six HTTP/1.1 connections to a host over all of its tabs, so
// streams are shared, few, and take turns where more are wanted than there may be.

/** A server stream: full method name and request, as bytes so that it can cross from tab to worker. */
export interface Wanted {
  readonly method: string;
  readonly request: Uint8Array;
}

export interface Failure {
  readonly sentence: string;
  /** False: the stream will not come, whoever asks; true: it is tried again. */
  readonly retrying: boolean;
  /** The token was refused. */
  readonly signedOut: boolean;
}

export interface Listener {
  /** What was told so far is void: the stream begins anew with everything. */
  reset(): void;
  message(bytes: Uint8Array): void;
  failed(failure: Failure): void;
}

/** Opens one stream; ends when it ends, throws when it fails, stops at the signal. */
export type Connect = (wanted: Wanted, signal: AbortSignal, onMessage: (bytes: Uint8Array) => void) => Promise<void>;

export interface HubOptions {
  readonly connect: Connect;
  /** What a failure means. */
  readonly judge: (error: unknown) => Failure;
  /** Called when the platform is lost (false) and found (true). */
  readonly onLink: (up: boolean) => void;
  readonly random: () => number;
  /** Streams at once; the rest of the six connections is left to calls. */
  readonly streams: number;
}

/** Each watch says something every 15 s; one that is silent for this long is dead, whatever the socket thinks. */
export const SILENCE_MS = 35_000;
/** Where streams take turns: how long one keeps its place while another waits. */
export const TURN_MS = 4_000;
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 10_000;

interface Stream {
  readonly wanted: Wanted;
  readonly listeners: Set<Listener>;
  state: "waiting" | "open" | "resting";
  /** Order in which streams got their place: the lowest has had it longest. */
  turn: number;
  /** Failures since the last message. */
  failures: number;
  /** Something came since it was opened last. */
  heard: boolean;
  abort?: AbortController;
  silence?: ReturnType<typeof setTimeout>;
  rest?: ReturnType<typeof setTimeout>;
}

export class StreamHub {
  private readonly streams = new Map<string, Stream>();
  private turns = 0;
  private rotation?: ReturnType<typeof setTimeout>;
  private up = true;

  constructor(private readonly options: HubOptions) {}

  /** Opens a stream or joins one that is open; a join begins it anew for all, so that the newcomer gets everything. */
  open(wanted: Wanted, listener: Listener): () => void {
    const key = keyOf(wanted);
    const known = this.streams.get(key);
    const stream: Stream = known ?? {
      wanted,
      listeners: new Set(),
      state: "waiting",
      turn: 0,
      failures: 0,
      heard: false,
    };
    stream.listeners.add(listener);
    if (known === undefined) this.streams.set(key, stream);
    else if (stream.state === "open") this.start(stream);
    else if (stream.state === "resting") {
      // Asked anew, by somebody who knows nothing yet: of a refusal neither.
      clearTimeout(stream.rest);
      stream.state = "waiting";
    }
    this.schedule();
    return () => this.leave(key, stream, listener);
  }

  /** Begins every stream anew: with another token, say. */
  restart(): void {
    for (const stream of this.streams.values()) {
      this.release(stream);
      stream.state = "waiting";
      stream.failures = 0;
    }
    this.schedule();
  }

  /** Tries at once what waits for its next try: the person, or the browser, says that the network is back. */
  hurry(): void {
    for (const stream of this.streams.values()) {
      if (stream.state !== "resting") continue;
      clearTimeout(stream.rest);
      stream.state = "waiting";
    }
    this.schedule();
  }

  /** Whether the platform answers, as far as the streams tell. */
  get linked(): boolean {
    return this.up;
  }

  private leave(key: string, stream: Stream, listener: Listener): void {
    stream.listeners.delete(listener);
    if (stream.listeners.size > 0 || this.streams.get(key) !== stream) return;
    this.release(stream);
    this.streams.delete(key);
    this.schedule();
  }

  /** Gives free places to those who wait; where none is free, the one that had its place longest goes after its turn. */
  private schedule(): void {
    const all = [...this.streams.values()];
    const open = all.filter((stream) => stream.state === "open").sort((a, b) => a.turn - b.turn);
    const waiting = all.filter((stream) => stream.state === "waiting").sort((a, b) => a.turn - b.turn);
    for (const stream of waiting.splice(0, Math.max(this.options.streams - open.length, 0))) this.start(stream);
    clearTimeout(this.rotation);
    this.rotation = undefined;
    if (waiting.length === 0) return;
    this.rotation = setTimeout(() => {
      const oldest = open[0];
      if (oldest?.state === "open") {
        this.release(oldest);
        oldest.state = "waiting";
        // It has had its turn: behind those who wait.
        oldest.turn = ++this.turns;
      }
      this.schedule();
    }, TURN_MS);
  }

  private start(stream: Stream): void {
    this.release(stream);
    const abort = new AbortController();
    stream.abort = abort;
    stream.state = "open";
    stream.turn = ++this.turns;
    let begun = false;
    const current = () => stream.abort === abort;
    const hear = (bytes: Uint8Array) => {
      if (!current()) return;
      this.listen(stream);
      stream.failures = 0;
      stream.heard = true;
      this.link();
      if (!begun) {
        begun = true;
        for (const listener of stream.listeners) listener.reset();
      }
      for (const listener of stream.listeners) listener.message(bytes);
    };
    this.listen(stream);
    this.options.connect(stream.wanted, abort.signal, hear).then(
      // A server that is being restarted ends its streams in good order.
      () => current() && this.again(stream, undefined),
      (error: unknown) => current() && this.again(stream, this.options.judge(error)),
    );
  }

  private listen(stream: Stream): void {
    clearTimeout(stream.silence);
    stream.silence = setTimeout(() => {
      this.again(stream, { sentence: "The platform has fallen silent.", retrying: true, signedOut: false });
    }, SILENCE_MS);
  }

  private again(stream: Stream, failure: Failure | undefined): void {
    this.release(stream);
    if (failure !== undefined) {
      for (const listener of [...stream.listeners]) listener.failed(failure);
    }
    stream.state = "resting";
    if (failure === undefined || failure.retrying) {
      const ceiling = Math.min(FIRST_BACKOFF_MS * 2 ** stream.failures, LAST_BACKOFF_MS);
      stream.failures += 1;
      stream.rest = setTimeout(
        () => {
          stream.state = "waiting";
          this.schedule();
        },
        ceiling * (0.5 + this.options.random() / 2),
      );
    }
    if (failure?.retrying) this.link();
    this.schedule();
  }

  private release(stream: Stream): void {
    clearTimeout(stream.silence);
    clearTimeout(stream.rest);
    stream.heard = false;
    const abort = stream.abort;
    stream.abort = undefined;
    abort?.abort();
  }

  /** It is lost where streams fail and none is heard: one service that is down is told of where it is missed. */
  private link(): void {
    const all = [...this.streams.values()];
    const up = all.some((stream) => stream.heard) || !all.some((stream) => stream.failures > 0);
    if (this.up === up) return;
    this.up = up;
    this.options.onLink(up);
  }
}

function keyOf(wanted: Wanted): string {
  return `${wanted.method} ${wanted.request.join(",")}`;
}
