import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import { vi } from "vitest";

interface Refusal {
  readonly code: Code;
  readonly message: string;
}

interface Stream {
  readonly token: string | null;
  readonly send: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly end: (refusal?: Refusal) => void;
}

type Handler = (
  request: Uint8Array,
  token: string | null,
) => Uint8Array<ArrayBuffer> | Promise<Uint8Array<ArrayBuffer>>;

/** Raise it in a handler to refuse a call. */
export class Refused extends Error {
  constructor(
    readonly code: Code,
    message: string,
  ) {
    super(message);
  }
}

/** A gateway that a test speaks for, at the place where the browser would go to the network. */
export class Gateway {
  /** Everything that was asked: full method name and token. */
  readonly asked: { readonly method: string; readonly token: string | null; readonly url: string }[] = [];
  /** False: nobody answers at all. */
  reachable = true;
  private readonly handlers = new Map<string, Handler>();
  private readonly streams = new Map<string, Stream[]>();

  constructor() {
    vi.stubGlobal("fetch", this.fetch);
  }

  /** What a call is answered with. */
  on<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    handler: (request: MessageShape<I>, token: string | null) => MessageInitShape<O> | Promise<MessageInitShape<O>>,
  ): void {
    this.handlers.set(nameOf(method), async (bytes, token) =>
      toBinary(method.output, create(method.output, await handler(fromBinary(method.input, bytes), token))),
    );
  }

  /** Tokens of the streams of a method that are open now. */
  open(method: DescMethodServerStreaming<DescMessage, DescMessage>): (string | null)[] {
    return (this.streams.get(nameOf(method)) ?? []).map((stream) => stream.token);
  }

  /** Says something on every open stream of a method. */
  async say<O extends DescMessage>(
    method: DescMethodServerStreaming<DescMessage, O>,
    message: MessageInitShape<O>,
  ): Promise<void> {
    for (const stream of this.streams.get(nameOf(method)) ?? [])
      stream.send(toBinary(method.output, create(method.output, message)));
    await settle();
  }

  async end(method: DescMethodServerStreaming<DescMessage, DescMessage>, refusal?: Refusal): Promise<void> {
    for (const stream of [...(this.streams.get(nameOf(method)) ?? [])]) stream.end(refusal);
    await settle();
  }

  private readonly fetch = async (url: string, init: RequestInit): Promise<unknown> => {
    const method = url.split("/").slice(-2).join("/");
    const header = new Headers(init.headers).get("authorization");
    const token = header === null ? null : header.replace(/^Bearer /, "");
    this.asked.push({ method, token, url });
    if (!this.reachable) throw new TypeError("Failed to fetch");
    const body = new Uint8Array(await new Response(init.body as BodyInit).arrayBuffer()).slice(5);
    // Given up while the request was being read: a browser does not send it.
    init.signal?.throwIfAborted();
    const handler = this.handlers.get(method);
    if (handler === undefined) return answer(this.stream(method, token, init.signal ?? undefined));
    try {
      const bytes = await aborted(handler(body, token), init.signal ?? undefined);
      return answer(bytesOf(frame(0, bytes), trailer()));
    } catch (error) {
      if (error instanceof Refused) return answer(bytesOf(trailer(error)));
      throw error;
    }
  };

  private stream(method: string, token: string | null, signal: AbortSignal | undefined): ReadableStream {
    return new ReadableStream({
      start: (controller) => {
        const leave = () => {
          const others = this.streams.get(method)?.filter((other) => other !== stream) ?? [];
          this.streams.set(method, others);
        };
        const stream: Stream = {
          token,
          send: (bytes) => controller.enqueue(frame(0, bytes)),
          end: (refusal) => {
            leave();
            controller.enqueue(trailer(refusal));
            controller.close();
          },
        };
        this.streams.set(method, [...(this.streams.get(method) ?? []), stream]);
        signal?.addEventListener("abort", () => {
          leave();
          controller.error(new DOMException("aborted", "AbortError"));
        });
      },
    });
  }
}

/** Lets everything happen that waits for no time to pass. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) {
    if (vi.isFakeTimers()) await vi.advanceTimersByTimeAsync(0);
    await new Promise<void>((done) => realImmediate(done));
  }
}

// Before a test takes the timers over.
const realImmediate = setImmediate;

function nameOf(method: { readonly parent: { readonly typeName: string }; readonly name: string }): string {
  return `${method.parent.typeName}/${method.name}`;
}

function frame(flags: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const framed = new Uint8Array(5 + bytes.length);
  framed[0] = flags;
  new DataView(framed.buffer).setUint32(1, bytes.length);
  framed.set(bytes, 5);
  return framed;
}

function trailer(refusal?: Refusal): Uint8Array<ArrayBuffer> {
  const text = `grpc-status: ${refusal?.code ?? 0}\r\ngrpc-message: ${encodeURIComponent(refusal?.message ?? "")}\r\n`;
  return frame(0x80, new TextEncoder().encode(text));
}

function bytesOf(...parts: Uint8Array<ArrayBuffer>[]): ReadableStream {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
}

function answer(body: ReadableStream): unknown {
  return { ok: true, status: 200, headers: new Headers({ "content-type": "application/grpc-web+proto" }), body };
}

function aborted<T>(work: T | Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    Promise.resolve(work).then(resolve, reject);
  });
}
