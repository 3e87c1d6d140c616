import { useComputed } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { mayAdmin, mayReadLog, mayWrite } from "../../api/session";
import { integer, moment } from "../../format";
import { type GetUsageResponse, UsageGrouping } from "../../gen/protos/quota/v1/quota_pb";
import { now, platformNow } from "../../time";
import { Button } from "../../ui/button";
import { SelectField, TextField } from "../../ui/fields";
import { Card, Head } from "../../ui/layout";
import { Failed, Loading, Note } from "../../ui/note";
import type { Asked } from "../../ui/use";
import { Breakdown } from "./breakdown";
import { GROUPINGS } from "./breakdown-rows";
import { burnOf } from "./burn";
import { BurnChart } from "./burn-chart";
import { Charges, PastCharges } from "./charges";
import { AdjustMinutes, SetQuota, Verify } from "./dialogs";
import { Invoice } from "./invoice";
import { bounds, fromLocalInput, localInput, momentOf, monthName, monthOf, shifted } from "./month";
import { Numbers } from "./numbers";
import css from "./usage.module.css";
import { useBreakdown, useThrottled, useUsage, type View } from "./use-usage";

// Breakdown and charges follow the live numbers at a calmer pace: each asks for a whole month.
const CALM_MS = 5_000;
const MONTHS = 24;

/** Compute minutes: what is left, where they went, and what each training cost. */
export default function Usage() {
  const { query, route } = useLocation();
  const month = bounds(query.month ?? "") === undefined ? "" : (query.month ?? "");
  const atMs = momentOf(query.at);
  const view = useMemo<View>(() => ({ month, atMs }), [month, atMs]);
  const job = query.job ?? "";
  const by = GROUPINGS.find((one) => one.id === query.by) ?? GROUPINGS[0];
  const [asking, setAsking] = useState<"quota" | "adjust" | "verify">();
  const asked = useUsage(view);
  const usage = asked.value;
  const changed = useThrottled(usage === undefined ? "" : `${usage.usedMilliminutes} ${usage.runningJobs}`, CALM_MS);
  const days = useBreakdown(view, UsageGrouping.DAY, changed);
  const rows = useBreakdown(view, by?.value ?? UsageGrouping.RUNNER, changed);
  const past = atMs > 0;
  const thisMonth = useComputed(() => monthOf(now.value)).value;

  const go = (change: Record<string, string>) => {
    const wanted = new URLSearchParams(Object.entries({ ...query, ...change }).filter(([, value]) => value !== ""));
    route(`/usage${wanted.size > 0 ? `?${wanted}` : ""}`, true);
  };
  const show = (wanted: string) => go({ month: wanted === thisMonth && !past ? "" : wanted });
  const shown = usage?.period ?? (month || (past ? monthOf(atMs) : thisMonth));
  const months = Array.from({ length: MONTHS }, (_, index) => shifted(thisMonth, -index));

  return (
    <>
      <Head
        title="Usage"
        actions={
          <>
            {(mayWrite.value || mayReadLog.value) && <Button onClick={() => setAsking("verify")}>Verify</Button>}
            {mayAdmin.value && (
              <>
                <Button onClick={() => setAsking("adjust")}>Adjust minutes</Button>
                <Button onClick={() => setAsking("quota")} disabled={usage === undefined}>
                  Set quota
                </Button>
              </>
            )}
          </>
        }
      >
        Compute minutes of {monthName(shown)}, months in UTC{!past && month === "" && " · live"}
      </Head>
      <div class={css.pickers}>
        <div class={css.month}>
          <Button label="The month before" onClick={() => show(shifted(shown, -1))}>
            <span aria-hidden="true">‹</span>
          </Button>
          <SelectField
            label="Month"
            value={shown}
            options={[...new Set([...months, shown])].map((value) => ({ value, label: monthName(value) }))}
            onChange={show}
          />
          <Button label="The month after" disabled={shown >= thisMonth} onClick={() => show(shifted(shown, 1))}>
            <span aria-hidden="true">›</span>
          </Button>
        </div>
        <TextField
          label="As it was known at"
          type="datetime-local"
          value={localInput(atMs)}
          max={localInput(platformNow())}
          onInput={(text) => go({ at: fromLocalInput(text) > 0 ? String(fromLocalInput(text)) : "" })}
        />
        {past && <Button onClick={() => go({ at: "", month: "" })}>Back to now</Button>}
      </div>
      {past && (
        <Note tone="warn">
          You look at the past: what was known at {moment(atMs)}
          {usage && `, up to event #${integer(usage.position)}`}. What was found out afterwards, a correction or a late
          report, is not in it. A quota that you set, and minutes that you adjust, count from now on.
        </Note>
      )}
      <div class={css.page}>
        {job && (
          <Card title="What one training cost" actions={<Button onClick={() => go({ job: "" })}>All trainings</Button>}>
            <Invoice jobId={job} atMs={atMs} changed={changed} />
          </Card>
        )}
        {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
        {usage === undefined ? (
          !asked.problem && (
            <Card>
              <Loading what="Loading the month" lines={6} />
            </Card>
          )
        ) : (
          <>
            <Card title={monthName(usage.period)}>
              <Numbers usage={usage} past={past} />
              <Curve usage={usage} days={days} past={past} />
            </Card>
            {by && <Breakdown by={by} onChoose={(id) => go({ by: id })} asked={rows} />}
            {past ? <Past view={view} /> : <Charges key={usage.period} period={usage.period} changed={changed} />}
          </>
        )}
      </div>
      {asking === "quota" && usage && (
        <SetQuota
          quota={usage.quotaMilliminutes}
          used={usage.period === thisMonth ? usage.usedMilliminutes : 0n}
          onClose={() => setAsking(undefined)}
        />
      )}
      {asking === "adjust" && (
        <AdjustMinutes month={thisMonth} chosen={shown} jobId={job} onClose={() => setAsking(undefined)} />
      )}
      {asking === "verify" && <Verify onClose={() => setAsking(undefined)} />}
    </>
  );
}

interface CurveProps {
  usage: GetUsageResponse;
  days: Asked<GetUsageResponse>;
  past: boolean;
}

function Curve({ usage, days, past }: CurveProps) {
  const known = days.value;
  const burn = useMemo(
    () =>
      known &&
      burnOf({
        period: usage.period,
        asOfMs: Number(known.asOfMs),
        used: known.usedMilliminutes,
        quota: usage.quotaMilliminutes,
        burnPerHour: usage.burnMilliminutesPerHour,
        exhaustedAtMs: Number(usage.exhaustedAtMs),
        days: known.rows,
      }),
    [usage, known],
  );
  if (burn === undefined)
    return (
      <div class={css.figure}>
        {days.problem ? (
          <Failed retry={days.reload}>{days.problem}</Failed>
        ) : (
          <Loading what="Loading the days" lines={6} />
        )}
      </div>
    );
  return (
    <BurnChart
      period={usage.period}
      burn={burn}
      quota={usage.quotaMilliminutes}
      nowName={past ? "then" : burn.untilMs < burn.endMs ? "now" : "at the end of the month"}
    />
  );
}

function Past({ view }: { view: View }) {
  const asked = useBreakdown(view, UsageGrouping.JOB, 0);
  return <PastCharges asked={asked} atMs={view.atMs} />;
}
