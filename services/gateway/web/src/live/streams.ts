import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { signal } from "@preact/signals";
import { begin, currentToken, end } from "../api/session";
import { nameOf } from "./connect";
import type { Failure } from "./hub";
import { Office } from "./office";
import type { ToTab, ToWorker } from "./protocol";

/** False while the platform does not answer. */
export const linkUp = signal(true);

export interface Watcher<T> {
  /** Forget what was told: everything is told anew. */
  reset(): void;
  message(message: T): void;
  failed?(failure: Failure): void;
}

interface Open {
  readonly send: () => void;
  readonly hear: (message: ToTab) => void;
}

let post: (message: ToWorker) => void = () => undefined;
let ids = 0;
const open = new Map<number, Open>();

/** Connects this tab with the worker that the tabs share. To be called once, before anything is watched. */
export function startStreams(): void {
  if (typeof SharedWorker === "function") {
    const worker = new SharedWorker(new URL("./worker.ts", import.meta.url), { type: "module", name: "tether" });
    worker.port.onmessage = ({ data }: MessageEvent<ToTab>) => hear(data);
    post = (message) => worker.port.postMessage(message);
    const lock = `tether-tab-${Math.random()}`;
    void navigator.locks?.request(lock, () => {
      post({ kind: "lives", lock });
      return new Promise(() => undefined);
    });
  } else {
    const office = new Office();
    const tab = { postMessage: hear };
    office.enter(tab);
    post = (message) => office.hear(tab, message);
  }
  if (currentToken() === null) post({ kind: "ask" });
  // A hidden tab watches nothing; what it missed is told when it is seen again.
  document.addEventListener("visibilitychange", () => {
    for (const [id, stream] of open) document.hidden ? post({ kind: "close", id }) : stream.send();
  });
  window.addEventListener("online", () => post({ kind: "hurry" }));
  window.addEventListener("pagehide", () => post({ kind: "bye" }));
  // Back from the browser's cache of pages: the worker has been told goodbye.
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
}

/** Tells the other tabs, and the streams, of the session that began or ended here. */
export function shareSession(token: string | null): void {
  post({ kind: "session", token });
}

/** Tries again at once. */
export function hurry(): void {
  post({ kind: "hurry" });
}

/** Watches a server stream until the function that it returns is called. */
export function watch<I extends DescMessage, O extends DescMessage>(
  method: DescMethodServerStreaming<I, O>,
  request: MessageInitShape<I>,
  watcher: Watcher<MessageShape<O>>,
): () => void {
  const id = ++ids;
  const wanted = { method: nameOf(method), request: toBinary(method.input, create(method.input, request)) };
  const stream: Open = {
    send: () => post({ kind: "open", id, wanted }),
    hear: (message) => {
      if (message.kind === "reset") watcher.reset();
      else if (message.kind === "message") watcher.message(fromBinary(method.output, message.bytes));
      else if (message.kind === "failed") {
        if (message.failure.signedOut) end(message.failure.sentence);
        watcher.failed?.(message.failure);
      }
    },
  };
  open.set(id, stream);
  if (!document.hidden) stream.send();
  return () => {
    open.delete(id);
    post({ kind: "close", id });
  };
}

function hear(message: ToTab): void {
  switch (message.kind) {
    case "link":
      linkUp.value = message.up;
      return;
    case "session":
      if (message.token === null) end();
      else if (message.token !== currentToken()) void begin(message.token);
      return;
    default:
      open.get(message.id)?.hear(message);
  }
}
