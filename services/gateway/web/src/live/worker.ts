/// <reference lib="webworker" />
import { Office } from "./office";
import type { ToWorker } from "./protocol";

// The worker that all tabs of the page share.
const office = new Office();
const scope = self as unknown as SharedWorkerGlobalScope;

scope.onconnect = ({ ports }) => {
  const port = ports[0];
  if (port === undefined) return;
  office.enter(port);
  port.onmessage = ({ data }: MessageEvent<ToWorker>) => office.hear(port, data);
};
