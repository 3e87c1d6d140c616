import { createClient } from "@connectrpc/connect";
import { computed, signal } from "@preact/signals";
import { Role } from "../gen/protos/events/v1/workspace_pb";
import { AccessService, type WhoAmIResponse } from "../gen/protos/scheduler/v1/access_pb";
import { setPlatformTime } from "../time";
import { isSignedOut, sentence } from "./errors";
import { CALL_TIMEOUT_MS, gatewayTransport } from "./transport";

// The token lives in this tab's session storage, which ends with the tab: never in a URL or in local storage. A new tab
// of the same page gets it from the worker that the tabs share (live/streams.ts).
const KEY = "tether.token";
const RETRY_MS = 3_000;

/** Who is signed in; null: nobody; undefined: not known yet. */
export const who = signal<WhoAmIResponse | null | undefined>(undefined);
/** Why the last session ended, or could not begin; empty: no reason to tell. */
export const signInProblem = signal("");
const token = signal<string | null>(sessionStorage.getItem(KEY));

export const currentToken = () => token.value;
export const transport = gatewayTransport(currentToken, (secret, error) => {
  if (secret === token.value) end(sentence(error));
});
const access = createClient(AccessService, transport);
// A code needs no token; were it refused, the refusal would seem to be one of the token that came along.
const door = createClient(
  AccessService,
  gatewayTransport(() => null),
);

const role = computed(() => who.value?.role ?? Role.UNSPECIFIED);
/** May register datasets, save workflows, run and stop trainings. */
export const mayWrite = computed(() => role.value === Role.MEMBER || role.value === Role.ADMIN);
/** May manage runners, tokens, quota, webhook. */
export const mayAdmin = computed(() => role.value === Role.ADMIN);
/** May read the event log. */
export const mayReadLog = computed(() => role.value === Role.ADMIN || role.value === Role.ANALYST);

/**
 * Begins a session with a token; false, with `signInProblem` set, where it is refused. What happens meanwhile, another
 * sign-in or the end of this one, counts more than the answer.
 */
export async function begin(secret: string): Promise<boolean> {
  token.value = secret;
  try {
    const found = await ask();
    if (token.value !== secret) return false;
    if (found.kind !== "token") {
      end("That key belongs to a runner or to the operator; this page is opened with a person's token.");
      return false;
    }
    sessionStorage.setItem(KEY, secret);
    signInProblem.value = "";
    who.value = found;
    return true;
  } catch (error) {
    if (token.value === secret && !isSignedOut(error)) {
      // The token may well be right: it is kept, and tried again while nobody signs in with another.
      signInProblem.value = sentence(error);
      who.value = null;
      setTimeout(() => who.value === null && token.value === secret && void begin(secret), RETRY_MS);
    }
    return false;
  }
}

/** Who we are, and platform time with it. */
async function ask(): Promise<WhoAmIResponse> {
  const asked = Date.now();
  const found = await access.whoAmI({}, { timeoutMs: CALL_TIMEOUT_MS });
  setPlatformTime(Number(found.nowMs), asked, Date.now());
  return found;
}

/** Learns platform time anew: this computer's clock may have been put right while nobody looked. */
export async function relearnTime(): Promise<void> {
  if (!who.value) return;
  try {
    await ask();
  } catch {
    // What was learnt before stays.
  }
}

/** Changes a single-use code for a token and begins a session; a session that there is stays where it is refused. */
export async function beginWithCode(code: string): Promise<boolean> {
  try {
    const made = await door.signIn({ code }, { timeoutMs: CALL_TIMEOUT_MS });
    return await begin(made.secret);
  } catch (error) {
    signInProblem.value = sentence(error);
    if (token.value === null) who.value = null;
    return false;
  }
}

/** Ends the session in this tab, with a reason for the person to read. */
export function end(problem = ""): void {
  sessionStorage.removeItem(KEY);
  token.value = null;
  signInProblem.value = problem;
  who.value = null;
}

/** Signs out: a token that a code has made is revoked as well. */
export async function signOut(): Promise<void> {
  try {
    await access.signOut({}, { timeoutMs: CALL_TIMEOUT_MS });
  } catch {
    // A token that was typed in stays valid for its other uses; here it is forgotten all the same.
  }
  end();
}
