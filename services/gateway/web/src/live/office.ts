import { gatewayTransport } from "../api/transport";
import { connectOver, judge } from "./connect";
import { StreamHub } from "./hub";
import type { Port, ToTab, ToWorker } from "./protocol";

// Four streams of the browser's six connections; the rest is for calls.
const STREAMS = 4;

/** What serves the tabs: in a shared worker, or in the one tab of a browser that has none. */
export class Office {
  private token: string | null = null;
  private readonly tabs = new Map<Port<ToTab>, Map<number, () => void>>();
  private readonly hub = new StreamHub({
    connect: connectOver(gatewayTransport(() => this.token)),
    judge,
    onLink: (up) => this.tell({ kind: "link", up }),
    random: Math.random,
    streams: STREAMS,
  });

  enter(tab: Port<ToTab>): void {
    this.tabs.set(tab, new Map());
    if (!this.hub.linked) tab.postMessage({ kind: "link", up: false });
  }

  hear(tab: Port<ToTab>, message: ToWorker): void {
    const streams = this.tabs.get(tab);
    if (streams === undefined) return;
    switch (message.kind) {
      case "open": {
        const { id } = message;
        // The same id again means the same stream anew.
        streams.get(id)?.();
        const close = this.hub.open(message.wanted, {
          reset: () => tab.postMessage({ kind: "reset", id }),
          message: (bytes) => tab.postMessage({ kind: "message", id, bytes }),
          failed: (failure) => tab.postMessage({ kind: "failed", id, failure }),
        });
        streams.set(id, close);
        return;
      }
      case "close":
        streams.get(message.id)?.();
        streams.delete(message.id);
        return;
      case "session":
        if (message.token === this.token) return;
        this.token = message.token;
        this.tell({ kind: "session", token: this.token }, tab);
        if (this.token === null) this.closeAll();
        else this.hub.restart();
        return;
      case "ask":
        if (this.token !== null) tab.postMessage({ kind: "session", token: this.token });
        return;
      case "hurry":
        this.hub.hurry();
        return;
      case "lives":
        void navigator.locks?.request(message.lock, () => this.leave(tab));
        return;
      case "bye":
        this.leave(tab);
    }
  }

  /** Nobody is signed in: nothing is asked without a token, which would only be refused. */
  private closeAll(): void {
    for (const streams of this.tabs.values()) {
      for (const close of streams.values()) close();
      streams.clear();
    }
  }

  private leave(tab: Port<ToTab>): void {
    for (const close of this.tabs.get(tab)?.values() ?? []) close();
    this.tabs.delete(tab);
  }

  private tell(message: ToTab, except?: Port<ToTab>): void {
    for (const tab of this.tabs.keys()) if (tab !== except) tab.postMessage(message);
  }
}
