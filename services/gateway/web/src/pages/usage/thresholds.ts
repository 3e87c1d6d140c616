// What a quota says of the minutes used. Pure.
import { minutes, percent } from "../../format";
import type { GetUsageResponse } from "../../gen/protos/quota/v1/quota_pb";
import type { Tone } from "../../states";
import { shareOf } from "./amounts";

// Percent of the quota at which the platform says so, as an event and to the webhook.
const THRESHOLDS = [75n, 90n, 100n];
/** Those of them at which it only warns. */
export const WARNINGS = [75, 90] as const;

/** One sentence of where the month stands, and how serious that is. Numbers are minutes × 1000. */
export function standing(used: bigint, quota: bigint | undefined, exhausted: boolean): { tone: Tone; text: string } {
  if (quota === undefined)
    return { tone: "quiet", text: "There is no quota: nothing is ever stopped for its minutes." };
  if (exhausted)
    return {
      tone: "bad",
      text: `The quota of ${minutes(quota)} minutes is used up: running trainings are stopped, and none starts before the next month, a larger quota or a refund.`,
    };
  const passed = THRESHOLDS.findLast((percent) => used * 100n >= quota * percent);
  const next = THRESHOLDS.find((percent) => used * 100n < quota * percent);
  const ahead = next === undefined ? "" : aheadOf(next, (quota * next) / 100n);
  if (passed === undefined) return { tone: "good", text: ahead };
  return { tone: "warn", text: `${passed} % of the quota are passed. ${ahead}` };
}

function aheadOf(percent: bigint, at: bigint): string {
  return percent === 100n
    ? `At 100 %, ${minutes(at)} minutes, running trainings are stopped and new ones refused.`
    : `The next warning comes at ${percent} %, ${minutes(at)} minutes; at 100 % running trainings are stopped.`;
}

/** The same of a month that is over: it stops nothing any more. */
export function standingThen(used: bigint, quota: bigint | undefined): { tone: Tone; text: string } {
  const share = quota ? `: ${percent(shareOf(used, quota), 0)} of what is the quota today were used` : "";
  return { tone: "quiet", text: `The month is over${share}.` };
}

/** What is left, minutes × 1000; below zero where more was used; undefined without a quota. */
export function left(usage: Pick<GetUsageResponse, "usedMilliminutes" | "quotaMilliminutes">): bigint | undefined {
  return usage.quotaMilliminutes === undefined ? undefined : usage.quotaMilliminutes - usage.usedMilliminutes;
}
