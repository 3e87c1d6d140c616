import { createRegistry, type JsonValue, toJson } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { EventRecord } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { file_protos_events_v1_artifact } from "../../gen/protos/events/v1/artifact_pb";
import { file_protos_events_v1_job } from "../../gen/protos/events/v1/job_pb";
import { file_protos_events_v1_runner } from "../../gen/protos/events/v1/runner_pb";
import { file_protos_events_v1_workspace } from "../../gen/protos/events/v1/workspace_pb";

const files = {
  artifact: file_protos_events_v1_artifact,
  runner: file_protos_events_v1_runner,
  job: file_protos_events_v1_job,
  workspace: file_protos_events_v1_workspace,
};
const registry = createRegistry(...Object.values(files));

// Parts of events are messages of the same files; their names are no past participles of anything that happened.
const PARTS = new Set(["ChargedGpu", "ChargedInterval"]);

/** Names of all events that this page knows, by the kind of their stream. */
export const EVENT_TYPES: readonly { readonly kind: string; readonly types: readonly string[] }[] = [
  { kind: "runner", types: names(files.runner) },
  { kind: "job", types: names(files.job) },
  { kind: "artifact", types: names(files.artifact) },
  { kind: "workspace", types: names(files.workspace) },
];

/** An event's payload as JSON text; of a type of a newer platform its bytes, in hexadecimal. */
export function payloadText(event: EventRecord): string {
  const { payload } = event;
  if (payload === undefined) return "{}";
  const message = anyUnpack(payload, registry);
  const schema = message === undefined ? undefined : registry.getMessage(message.$typeName);
  if (message === undefined || schema === undefined)
    return Array.from(payload.value, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const json: JsonValue = toJson(schema, message, { registry, useProtoFieldName: true });
  return JSON.stringify(json, null, 2);
}

function names(file: (typeof files)[keyof typeof files]): readonly string[] {
  return file.messages.map((message) => message.name).filter((name) => !PARTS.has(name));
}
