import { useMemo } from "preact/hooks";
import { access, call } from "../../api/clients";
import { mayAdmin } from "../../api/session";
import { chargedMilliminutes, integer, minutes, percent } from "../../format";
import type { GetUsageResponse } from "../../gen/protos/quota/v1/quota_pb";
import { Card, right, Table } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Tabs } from "../../ui/tabs";
import { type Asked, useAsked } from "../../ui/use";
import { shareOf } from "./amounts";
import { GROUPINGS, type Grouping, type Part, wholeOf } from "./breakdown-rows";
import css from "./usage.module.css";

interface BreakdownProps {
  by: Grouping;
  onChoose: (id: string) => void;
  asked: Asked<GetUsageResponse>;
}

/** Where the minutes of the month went: rows that add up to the whole. */
export function Breakdown({ by, onChoose, asked }: BreakdownProps) {
  return (
    <Card title="Where the minutes went">
      <Tabs
        label="Broken down by"
        tabs={GROUPINGS.map(({ id, label }) => ({ id, label }))}
        chosen={by.id}
        onChoose={onChoose}
      >
        {asked.value !== undefined ? (
          <>
            {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
            <Rows by={by} usage={asked.value} />
          </>
        ) : asked.problem ? (
          <Failed retry={asked.reload}>{asked.problem}</Failed>
        ) : (
          <Loading what="Loading the breakdown" />
        )}
      </Tabs>
    </Card>
  );
}

function Rows({ by, usage }: { by: Grouping; usage: GetUsageResponse }) {
  const names = useNames(by);
  const whole = useMemo(() => wholeOf(usage.rows, by.id, names), [usage, by, names]);
  // A thousand rows at most; the same ones are not compared anew each second.
  const lines = useMemo(() => whole.parts.map((part) => <Line key={part.key} part={part} />), [whole]);
  if (whole.parts.length === 0)
    return <Empty title="Nothing was charged">Minutes count from the start of a training process.</Empty>;
  return (
    <>
      <Table
        label={`Minutes by ${by.one.toLowerCase()}`}
        head={
          <>
            <th scope="col">{by.one}</th>
            <th scope="col" class={right}>
              Minutes
            </th>
            <th scope="col" class={right}>
              Share
            </th>
            <th scope="col" class={css.barColumn}>
              <span class="visually-hidden">Share as a bar; hatched: cut off</span>
            </th>
            <th scope="col" class={right}>
              Trainings
            </th>
            <th scope="col" class={right}>
              Cut off
            </th>
          </>
        }
      >
        {lines}
        <tr class={css.whole}>
          <th scope="row">The whole</th>
          <td class={right}>{minutes(chargedMilliminutes(whole.msMicros))}</td>
          <td class={right}>{whole.msMicros > 0n && "100 %"}</td>
          <td />
          <td />
          <td class={right}>{cutOffWords(whole.cutOff, whole.msMicros)}</td>
        </tr>
      </Table>
      <p class={`quiet ${css.remark}`}>
        The rows add up to the whole exactly; each is rounded by itself. Cut off: charged while the box was out of
        reach, because the training ran on.
      </p>
    </>
  );
}

function Line({ part }: { part: Part }) {
  return (
    <tr>
      <th scope="row" class={`break ${css.name}`}>
        {part.href ? <a href={part.href}>{part.name}</a> : part.name}
      </th>
      <td class={right}>{minutes(chargedMilliminutes(part.msMicros))}</td>
      <td class={right}>{part.share > 0 && percent(part.share)}</td>
      <td>
        <div class={css.rowBar} aria-hidden="true">
          <span style={{ width: `${part.length * 100}%` }}>
            <i style={{ width: `${Math.min(shareOf(part.cutOff, part.msMicros), 1) * 100}%` }} />
          </span>
        </div>
      </td>
      <td class={right}>{part.jobs > 0 && integer(part.jobs)}</td>
      <td class={right}>{cutOffWords(part.cutOff, part.msMicros)}</td>
    </tr>
  );
}

function cutOffWords(cutOff: bigint, of: bigint): string {
  if (cutOff === 0n) return "–";
  const share = of > 0n ? ` (${percent(shareOf(cutOff, of), 0)})` : "";
  return `${minutes(chargedMilliminutes(cutOff))}${share}`;
}

/** What people are called, for those who may see it. */
function useNames(by: Grouping): ReadonlyMap<string, string> {
  const wanted = by.id === "person" && mayAdmin.value;
  const asked = useAsked(
    async (signal) => (wanted ? (await access.listTokens({}, call(signal))).tokens : []),
    [wanted],
  );
  return useMemo(
    () => new Map(asked.value?.map((token) => [`token:${token.tokenId}`, token.name] as const) ?? []),
    [asked.value],
  );
}
