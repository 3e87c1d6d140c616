import type { ComponentChildren } from "preact";
import { minutes } from "../../format";
import type { GetUsageResponse } from "../../gen/protos/quota/v1/quota_pb";
import { Bar, Note } from "../../ui/note";
import { shareOf } from "./amounts";
import { monthOf } from "./month";
import { left, standing, standingThen, WARNINGS } from "./thresholds";
import css from "./usage.module.css";

/** Used, quota, left, and what runs, in numbers to be read from afar; below them what they mean. */
export function Numbers({ usage, past }: { usage: GetUsageResponse; past: boolean }) {
  const quota = usage.quotaMilliminutes;
  const rest = left(usage);
  const share = quota === undefined ? 0 : quota === 0n ? 1 : shareOf(usage.usedMilliminutes, quota);
  const over = usage.period < monthOf(Number(usage.asOfMs));
  const state = over
    ? standingThen(usage.usedMilliminutes, quota)
    : standing(usage.usedMilliminutes, quota, usage.exhausted);
  const adjusted = usage.adjustedMilliminutes;
  return (
    <section aria-label="Minutes of the month" class={css.numbers}>
      <div class={css.big}>
        <Figure name="Used" value={minutes(usage.usedMilliminutes)}>
          {adjusted !== 0n
            ? `of them ${adjusted > 0n ? "+" : "−"}${minutes(adjusted < 0n ? -adjusted : adjusted)} adjusted`
            : "compute minutes"}
        </Figure>
        <Figure name="Quota" value={quota === undefined ? "none" : minutes(quota)}>
          {quota === undefined ? "unlimited" : "minutes a month"}
        </Figure>
        <Figure name="Left" value={rest === undefined ? "–" : minutes(rest < 0n ? 0n : rest)}>
          {rest === undefined
            ? "no quota to use up"
            : rest < 0n
              ? `${minutes(-rest)} more than the quota`
              : `${Math.max(Math.floor((1 - share) * 100), 0)} % of the quota`}
        </Figure>
        <Figure name={past ? "Running then" : "Running now"} value={String(usage.runningJobs)}>
          {usage.runningJobs === 0
            ? "no training"
            : `${minutes(usage.runningMilliminutes)} so far, ${minutes(usage.burnMilliminutesPerHour)} an hour`}
        </Figure>
      </div>
      {quota !== undefined && (
        <div class={css.gauge}>
          <Bar share={share} label={`${Math.round(share * 100)} % of the quota used`} />
          <div class={css.marks} aria-hidden="true">
            {WARNINGS.map((percent) => (
              <span key={percent} style={{ left: `${percent}%` }}>
                {percent} %
              </span>
            ))}
          </div>
        </div>
      )}
      {state.tone === "good" || state.tone === "quiet" ? (
        <p class="quiet">{state.text}</p>
      ) : (
        <Note tone={state.tone}>{state.text}</Note>
      )}
    </section>
  );
}

function Figure({ name, value, children }: { name: string; value: string; children: ComponentChildren }) {
  return (
    <div>
      <div class="quiet">{name}</div>
      <div class={css.value}>{value}</div>
      <div class="quiet">{children}</div>
    </div>
  );
}
