// Charges in the list: joined from pages, and told in a line. Pure.
import { span, words } from "../../format";
import type { Charge, ChargedAttempt } from "../../gen/protos/quota/v1/quota_pb";
import { EndReason } from "../../gen/protos/training/v1/training_pb";

/** A page joined with what is known: each job once, as it was told last, the newest first. */
export function merged(known: readonly Charge[], page: readonly Charge[], where: "newest" | "older"): Charge[] {
  const told = new Map(page.map((charge) => [charge.jobId, charge]));
  const kept = known.map((charge) => {
    const newer = told.get(charge.jobId);
    told.delete(charge.jobId);
    return newer ?? charge;
  });
  const fresh = page.filter((charge) => told.has(charge.jobId));
  return where === "newest" ? [...fresh, ...kept] : [...kept, ...fresh];
}

/** How long an attempt ran at a price, in milliseconds. */
export function ranMs(attempt: ChargedAttempt): number {
  const interval = attempt.interval;
  if (interval === undefined || interval.startedAtMs === 0n) return 0;
  return Math.max(Number(interval.chargedUntilMs - interval.startedAtMs), 0);
}

/** `box-1, ran 31.6 s, finished`; several attempts say how many. */
export function chargeLine(charge: Charge): string {
  const last = charge.attempts.at(-1);
  if (last === undefined) return "no attempt";
  const ran = charge.attempts.reduce((sum, attempt) => sum + ranMs(attempt), 0);
  const presumed = charge.attempts.some((attempt) => attempt.interval?.presumed) ? ", presumed" : "";
  const attempts = charge.attempts.length > 1 ? `${charge.attempts.length} attempts, the last on ` : "";
  return `${attempts}${last.runnerName}, ran ${span(ran)}${presumed}, ${ending(charge, last)}`;
}

function ending(charge: Charge, last: ChargedAttempt): string {
  if (charge.running) return last.interval?.startedAtMs ? "runs" : "not started";
  return last.reason === EndReason.UNSPECIFIED ? "finished" : words(EndReason, last.reason);
}
