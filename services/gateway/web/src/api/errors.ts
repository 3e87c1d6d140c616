import { Code, ConnectError } from "@connectrpc/connect";
import { capitalized } from "../format";

/** What the page says where no answer came at all. */
export const UNREACHABLE = "The platform does not answer; try again in a moment.";

/** One sentence for people: the server's own where it sent one. */
export function sentence(error: unknown): string {
  const failure = ConnectError.from(error);
  if (isUnreachable(failure)) return UNREACHABLE;
  if (failure.code === Code.DeadlineExceeded) return "The platform took too long to answer; try again.";
  return capitalized(failure.rawMessage || "the platform refused without a reason");
}

/** Whether the platform, or a part of it, was not there to answer. */
export function isUnreachable(error: unknown): boolean {
  const { code, rawMessage } = ConnectError.from(error);
  // A fetch that finds nobody is an error of the browser, which connect-web calls unknown.
  return code === Code.Unavailable || (code === Code.Unknown && /fetch|network|load failed/i.test(rawMessage));
}

/** Whether the token was refused: unknown, revoked, expired. */
export function isSignedOut(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Unauthenticated;
}

export function hasCode(error: unknown, ...codes: Code[]): boolean {
  return codes.includes(ConnectError.from(error).code);
}
