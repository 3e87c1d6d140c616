import { type CallOptions, createClient } from "@connectrpc/connect";
import { EventLogService, WebhookService } from "../gen/protos/eventlog/v1/eventlog_pb";
import { ArtifactService } from "../gen/protos/metrics/v1/artifact_pb";
import { EvaluationService } from "../gen/protos/metrics/v1/evaluation_pb";
import { MetricsService } from "../gen/protos/metrics/v1/metrics_pb";
import { QuotaService } from "../gen/protos/quota/v1/quota_pb";
import { AccessService } from "../gen/protos/scheduler/v1/access_pb";
import { JobService } from "../gen/protos/scheduler/v1/job_pb";
import { RunnerService } from "../gen/protos/scheduler/v1/runner_pb";
import { WorkflowService } from "../gen/protos/scheduler/v1/workflow_pb";
import { transport } from "./session";
import { CALL_TIMEOUT_MS } from "./transport";

export const access = createClient(AccessService, transport);
export const artifacts = createClient(ArtifactService, transport);
export const evaluations = createClient(EvaluationService, transport);
export const eventLog = createClient(EventLogService, transport);
export const jobs = createClient(JobService, transport);
export const metrics = createClient(MetricsService, transport);
export const quota = createClient(QuotaService, transport);
export const runners = createClient(RunnerService, transport);
export const webhooks = createClient(WebhookService, transport);
export const workflows = createClient(WorkflowService, transport);

/** Options of a call: its deadline, and a signal that gives it up when the component goes away. */
export function call(signal?: AbortSignal, timeoutMs = CALL_TIMEOUT_MS): CallOptions {
  return signal ? { timeoutMs, signal } : { timeoutMs };
}

/** A request id: one for each thing that a person does, the same for its repeats. */
export function newRequestId(): string {
  // Not crypto.randomUUID: browsers keep it from pages that were loaded over plain HTTP from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
