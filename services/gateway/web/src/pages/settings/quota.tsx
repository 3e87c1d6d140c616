import { useState } from "preact/hooks";
import { call, quota } from "../../api/clients";
import { mayAdmin } from "../../api/session";
import { minutes } from "../../format";
import { Button } from "../../ui/button";
import { Card, Facts } from "../../ui/layout";
import { Bar, Failed, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { shareOf } from "../usage/amounts";
import { SetQuota } from "../usage/dialogs";
import { monthName } from "../usage/month";
import { standing } from "../usage/thresholds";
import css from "./settings.module.css";

/** How many minutes a month may have. */
export function Quota() {
  const [setting, setSetting] = useState(false);
  const asked = useAsked((signal) => quota.getUsage({}, call(signal)), []);
  const usage = asked.value;
  const limit = usage?.quotaMilliminutes;
  return (
    <Card
      title="Quota"
      actions={
        mayAdmin.value && (
          <Button kind="primary" disabled={usage === undefined} onClick={() => setSetting(true)}>
            Set quota
          </Button>
        )
      }
    >
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      {usage === undefined ? (
        !asked.problem && <Loading what="Loading the quota" />
      ) : (
        <div class={css.stack}>
          <Facts
            of={[
              ["Quota", limit === undefined ? "unlimited" : `${minutes(limit)} compute minutes a calendar month (UTC)`],
              ["Used", `${minutes(usage.usedMilliminutes)} in ${monthName(usage.period)}`],
            ]}
          />
          {limit !== undefined && (
            <Bar
              share={limit === 0n ? 1 : shareOf(usage.usedMilliminutes, limit)}
              label={`${minutes(usage.usedMilliminutes)} of ${minutes(limit)} minutes used`}
            />
          )}
          <p class="quiet">
            {standing(usage.usedMilliminutes, limit, usage.exhausted).text} <a href="/usage">Where the minutes went</a>
          </p>
        </div>
      )}
      {setting && usage && (
        <SetQuota
          quota={limit}
          used={usage.usedMilliminutes}
          onClose={() => {
            setSetting(false);
            asked.reload();
          }}
        />
      )}
    </Card>
  );
}
