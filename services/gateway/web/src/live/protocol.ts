import type { Failure, Wanted } from "./hub";

/** From a tab to the worker that all tabs share. */
export type ToWorker =
  | { kind: "open"; id: number; wanted: Wanted }
  | { kind: "close"; id: number }
  // The session of this tab: what streams are opened with from now on; null: signed out.
  | { kind: "session"; token: string | null }
  // A tab without a session asks whether another has one.
  | { kind: "ask" }
  | { kind: "hurry" }
  // Name of a lock that the tab holds as long as it lives: how the worker learns that a tab has crashed.
  | { kind: "lives"; lock: string }
  // The tab goes away.
  | { kind: "bye" };

/** From the worker to a tab. */
export type ToTab =
  | { kind: "reset"; id: number }
  | { kind: "message"; id: number; bytes: Uint8Array }
  | { kind: "failed"; id: number; failure: Failure }
  | { kind: "session"; token: string | null }
  | { kind: "link"; up: boolean };

/** How a tab and the worker speak: a MessagePort, or two ends in one tab where the browser has no shared workers. */
export interface Port<Out> {
  postMessage(message: Out): void;
}
