import { useMemo, useState } from "preact/hooks";
import { minutes, shortId } from "../../format";
import type { Charge, GetUsageResponse } from "../../gen/protos/quota/v1/quota_pb";
import { Card } from "../../ui/layout";
import { Badge, Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import type { Asked } from "../../ui/use";
import { chargeLine } from "./charge-list";
import { Invoice } from "./invoice";
import css from "./usage.module.css";
import { useCharges } from "./use-charges";

interface Entry {
  readonly jobId: string;
  readonly name: string;
  readonly line: string;
  readonly milliminutes: bigint;
  readonly running: boolean;
}

/** What each training of the month cost, as it is known now. */
export function Charges({ period, changed }: { period: string; changed: unknown }) {
  const { charges, problem, more, reload } = useCharges(period, changed);
  const entries = useMemo(() => charges?.map(entryOf), [charges]);
  return (
    <Card title="What each training cost" flush>
      {problem && (
        <div class={css.pad}>
          <Failed retry={reload}>{problem}</Failed>
        </div>
      )}
      {entries !== undefined ? (
        <List entries={entries} atMs={0} changed={changed} onEnd={more} />
      ) : (
        !problem && <Loading what="Loading the charges" />
      )}
    </Card>
  );
}

/** The same as it was known at a moment: from the breakdown by training, which knows the past. */
export function PastCharges({ asked, atMs }: { asked: Asked<GetUsageResponse>; atMs: number }) {
  const rows = asked.value?.rows.filter((row) => row.key !== "" && row.key !== "*");
  const others = asked.value?.rows.find((row) => row.key === "*");
  return (
    <Card title="What each training had cost by then" flush>
      {asked.problem && (
        <div class={css.pad}>
          <Failed retry={asked.reload}>{asked.problem}</Failed>
        </div>
      )}
      {rows !== undefined ? (
        <List
          entries={rows.map((row) => ({
            jobId: row.key,
            name: row.name,
            line: shortId(row.key),
            milliminutes: row.milliminutes,
            running: false,
          }))}
          atMs={atMs}
          changed={0}
        />
      ) : (
        !asked.problem && <Loading what="Loading the charges" />
      )}
      {others && (
        <p class={`quiet ${css.pad}`}>
          {others.name}, {minutes(others.milliminutes)} minutes together: the smallest ones are not listed.
        </p>
      )}
    </Card>
  );
}

function entryOf(charge: Charge): Entry {
  const { jobId, jobName, milliminutes, running } = charge;
  return { jobId, name: jobName, line: `${shortId(jobId)} · ${chargeLine(charge)}`, milliminutes, running };
}

interface ListProps {
  entries: readonly Entry[];
  atMs: number;
  changed: unknown;
  onEnd?: () => void;
}

function List({ entries, atMs, changed, onEnd }: ListProps) {
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const toggle = (jobId: string) => {
    const next = new Set(opened);
    if (!next.delete(jobId)) next.add(jobId);
    setOpened(next);
  };
  if (entries.length === 0)
    return (
      <Empty title="Nothing was charged in this month">
        Minutes count from the start of a training process; checks of datasets and downloads are free.
      </Empty>
    );
  return (
    <Rows
      label="Charges"
      items={entries}
      keyOf={(entry) => entry.jobId}
      height={56}
      window="max(420px, calc(100dvh - 180px))"
      onEnd={onEnd}
    >
      {(entry) => {
        const open = opened.has(entry.jobId);
        return (
          <div class={css.charge}>
            <button type="button" class={css.chargeLine} aria-expanded={open} onClick={() => toggle(entry.jobId)}>
              <span class={css.chargeName}>
                <b>{entry.name || shortId(entry.jobId)}</b> {entry.running && <Badge tone="good">● running</Badge>}
                <span class={`quiet ${css.chargeText}`}>{entry.line}</span>
              </span>
              <span class={css.cost}>{minutes(entry.milliminutes)}</span>
              <span class="quiet" aria-hidden="true">
                {open ? "▴" : "▾"}
              </span>
            </button>
            {open && (
              <div class={css.chargeBody}>
                <Invoice jobId={entry.jobId} atMs={atMs} changed={entry.running ? changed : entry.milliminutes} />
              </div>
            )}
          </div>
        );
      }}
    </Rows>
  );
}
