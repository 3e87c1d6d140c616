// What roles, kinds of tokens and kinds of webhook events mean to people. Pure.
import { WebhookKind } from "../../gen/protos/eventlog/v1/eventlog_pb";
import { Role, TokenKind } from "../../gen/protos/events/v1/workspace_pb";
import type { Token } from "../../gen/protos/scheduler/v1/access_pb";
import type { State } from "../../states";

export const ROLES: readonly { readonly role: Role; readonly name: string; readonly may: string }[] = [
  { role: Role.VIEWER, name: "viewer", may: "Reads everything but the event log, and changes nothing." },
  { role: Role.ANALYST, name: "analyst", may: "A viewer who also reads the event log and verifies the minutes." },
  {
    role: Role.MEMBER,
    name: "member",
    may: "A viewer who also registers datasets, saves workflows, runs and stops trainings.",
  },
  {
    role: Role.ADMIN,
    name: "admin",
    may: "A member who also reads the event log and manages runners, tokens, quota and webhook.",
  },
];

export function roleWords(role: Role): { name: string; may: string } {
  return ROLES.find((one) => one.role === role) ?? { name: `role ${role}`, may: "" };
}

/** `sign-in` on the page apart from a token that was made to be kept. */
export function tokenKind(token: Token): string {
  return token.kind === TokenKind.SIGN_IN ? "sign-in" : "token";
}

export function tokenState(token: Token, nowMs: number): State {
  if (token.revoked) return { symbol: "■", label: "revoked", tone: "quiet" };
  if (isExpired(token, nowMs)) return { symbol: "◌", label: "expired", tone: "quiet" };
  return { symbol: "●", label: "valid", tone: "good" };
}

export function isExpired(token: Token, nowMs: number): boolean {
  return token.expiresAtMs > 0n && Number(token.expiresAtMs) <= nowMs;
}

/** Tokens that still open something first, the newest of each first. */
export function ordered(tokens: readonly Token[], nowMs: number): readonly Token[] {
  const over = (token: Token) => Number(token.revoked || isExpired(token, nowMs));
  return [...tokens].sort((a, b) => over(a) - over(b) || Number(b.createdAtMs - a.createdAtMs));
}

export const WEBHOOK_KINDS: readonly { readonly kind: WebhookKind; readonly label: string; readonly hint: string }[] = [
  { kind: WebhookKind.FINISHED, label: "Finished", hint: "A training reached its end." },
  { kind: WebhookKind.FAILED, label: "Failed", hint: "A training ended with an error, or could not start." },
  {
    kind: WebhookKind.KILLED,
    label: "Killed",
    hint: "A training was stopped: by a person, a lost connection, the quota.",
  },
  { kind: WebhookKind.UNREACHABLE, label: "Unreachable", hint: "A training was cut off, or was heard of again." },
  { kind: WebhookKind.QUOTA, label: "Quota", hint: "A threshold of the quota was passed, or the minutes are used up." },
];

/** `finished, failed`; all where none is named. */
export function kindWords(kinds: readonly WebhookKind[]): string {
  if (kinds.length === 0) return "all kinds";
  return kinds
    .map((kind) => WEBHOOK_KINDS.find((one) => one.kind === kind)?.label.toLowerCase() ?? `kind ${kind}`)
    .join(", ");
}
