import { who } from "../../api/session";
import { shortId } from "../../format";

/** Who did something, as far as everybody may know: `you`, or the token's id. */
export function person(actor: string): string {
  const id = actor.replace(/^token:/, "");
  return id === who.value?.subjectId ? "you" : shortId(id);
}
