import { ConnectError } from "@connectrpc/connect";
import { capitalized } from "../format";
import { InvalidFieldSchema, RevisedMeanwhileSchema } from "../gen/protos/common/v1/errors_pb";
import { sentence } from "./errors";

/** The field that the platform refused, from the request's root, and a sentence for people to read beside it. */
export function refusedField(error: unknown): { field: string; problem: string } | undefined {
  const [found] = ConnectError.from(error).findDetails(InvalidFieldSchema);
  if (found === undefined) return undefined;
  const rule = capitalized(found.rule);
  return { field: found.field, problem: rule ? `${rule}.` : sentence(error) };
}

/** The revision that there is now, where somebody else has revised the thing meanwhile. */
export function revisedMeanwhile(error: unknown): number | undefined {
  return ConnectError.from(error).findDetails(RevisedMeanwhileSchema)[0]?.revision;
}
