import { create, type DescMessage, type DescMethod, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { hasCode, isSignedOut, sentence } from "../api/errors";
import { EventLogService } from "../gen/protos/eventlog/v1/eventlog_pb";
import { MetricsService } from "../gen/protos/metrics/v1/metrics_pb";
import { QuotaService } from "../gen/protos/quota/v1/quota_pb";
import { JobService } from "../gen/protos/scheduler/v1/job_pb";
import { RunnerService } from "../gen/protos/scheduler/v1/runner_pb";
import type { Connect, Failure } from "./hub";

/** Every method that can be watched. */
export const WATCHES = {
  runners: RunnerService.method.watchRunners,
  jobs: JobService.method.watchJobs,
  metrics: MetricsService.method.watchMetrics,
  logs: MetricsService.method.watchLogs,
  usage: QuotaService.method.watchUsage,
  events: EventLogService.method.tailEvents,
} as const;

const METHODS = new Map<string, DescMethod>(Object.values(WATCHES).map((method) => [nameOf(method), method]));

export function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Streams over a transport. Messages stay bytes: they go on to tabs, which read them. */
export function connectOver(transport: Transport): Connect {
  return async (wanted, signal, onMessage) => {
    const method = METHODS.get(wanted.method) as DescMethod & { methodKind: "server_streaming" };
    const request = fromBinary(method.input as DescMessage, wanted.request);
    async function* once() {
      yield create(method.input as DescMessage, request);
    }
    const answer = await transport.stream(method, signal, undefined, undefined, once());
    for await (const message of answer.message) onMessage(toBinary(method.output as DescMessage, message));
  };
}

// What no second try mends.
const FINAL = [
  Code.InvalidArgument,
  Code.NotFound,
  Code.PermissionDenied,
  Code.FailedPrecondition,
  Code.Unauthenticated,
  Code.Unimplemented,
];

export function judge(error: unknown): Failure {
  return {
    sentence: sentence(ConnectError.from(error)),
    retrying: !hasCode(error, ...FINAL),
    signedOut: isSignedOut(error),
  };
}
