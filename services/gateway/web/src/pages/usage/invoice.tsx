import { call, quota } from "../../api/clients";
import { mayReadLog } from "../../api/session";
import { integer, minutes } from "../../format";
import type {
  CorrectedOutcome,
  ExplainChargeResponse,
  ExplainedAdjustment,
  ExplainedAttempt,
  ExplainedInterval,
} from "../../gen/protos/quota/v1/quota_pb";
import { reason } from "../../states";
import { right, Table } from "../../ui/layout";
import { Failed, Loading, Simulated, StateBadge } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { exact, exactSpan } from "./amounts";
import { factorOf, KINDS, rateWords, timesByKind, UNKNOWN_KIND } from "./invoice-words";
import { monthName, utc } from "./month";
import css from "./usage.module.css";
import { moment } from "./use-usage";

interface InvoiceProps {
  jobId: string;
  /** As it was known then; zero: now. */
  atMs: number;
  /** Asked again when it changes. */
  changed: unknown;
}

/** What a training cost, opened to its intervals, so that it can be checked by hand. */
export function Invoice({ jobId, atMs, changed }: InvoiceProps) {
  const asked = useAsked(
    (signal) => quota.explainCharge({ jobId, asOf: moment(atMs) }, call(signal)),
    [jobId, atMs, changed],
  );
  if (asked.value === undefined)
    return asked.problem ? (
      <Failed retry={asked.reload}>{asked.problem}</Failed>
    ) : (
      <Loading what="Loading what it cost" />
    );
  return (
    <>
      {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
      <Sheet told={asked.value} />
    </>
  );
}

function Sheet({ told }: { told: ExplainChargeResponse }) {
  const several = told.attempts.length > 1;
  return (
    <div class={css.invoice}>
      <p class="quiet">
        {timesByKind(told.attempts)
          .map(({ kind, ms }) => `${(KINDS[kind] ?? UNKNOWN_KIND).label} ${exactSpan(ms)}`)
          .map((words) => `${words} · `)
          .join("")}
        as of {utc(told.asOfMs)} UTC, event <Position of={told.position} />.{" "}
        <a href={`/trainings/${told.jobId}`}>The training</a>
      </p>
      {told.attempts.length === 0 && <p>No runner took it: nothing is charged.</p>}
      {told.attempts.map((attempt, index) => (
        <Attempt key={attempt.attemptId} attempt={attempt} number={several ? index + 1 : 0} />
      ))}
      {told.adjustments.map((one) => (
        <Adjustment key={String(one.position)} one={one} />
      ))}
      <p class={css.total}>
        Total <b class="number">{minutes(told.milliminutes)} compute minutes</b>{" "}
        <span class="quiet">exactly {exact(told.chargedMsMicros)}</span>
      </p>
      <p class="quiet">
        Check a row: (to − from) in minutes × rate. Check the whole: the sum of the rows and adjustments, rounded once.
      </p>
    </div>
  );
}

function Attempt({ attempt, number }: { attempt: ExplainedAttempt; number: number }) {
  const months = new Set(attempt.intervals.map((interval) => interval.period));
  const ended = [reason(attempt.reason), attempt.message].filter(Boolean).join(": ");
  return (
    <div class={css.attempt}>
      <p>
        {number > 0 ? `Attempt ${number} on` : "On"}{" "}
        {attempt.runnerId ? <a href={`/runners/${attempt.runnerId}`}>{attempt.runnerName}</a> : "no runner"}{" "}
        {attempt.simulated && <Simulated />}
        {ended && <span class="quiet"> ended by {ended}</span>}
      </p>
      {attempt.rateMicros > 0n && (
        <p>
          Rate <b class="number">{factorOf(attempt.rateMicros)}</b> = {rateWords(attempt)}{" "}
          <span class="quiet">
            written in event <Position of={attempt.assignedPosition} />
          </span>
        </p>
      )}
      {attempt.intervals.length === 0 ? (
        <p class="quiet">Its training process never started: nothing is charged.</p>
      ) : (
        <Table
          label="Intervals"
          head={
            <>
              <th scope="col">Interval</th>
              <th scope="col">From (UTC)</th>
              <th scope="col">To</th>
              <th scope="col" class={right}>
                Time
              </th>
              <th scope="col" class={right}>
                Minutes
              </th>
              <th scope="col">Why</th>
              <th scope="col">Events</th>
            </>
          }
        >
          {attempt.intervals.map((interval) => (
            <Interval key={String(interval.fromMs)} interval={interval} month={months.size > 1} />
          ))}
        </Table>
      )}
      {attempt.corrected.map((one) => (
        <Corrected key={String(one.position)} one={one} />
      ))}
    </div>
  );
}

function Interval({ interval, month }: { interval: ExplainedInterval; month: boolean }) {
  const [began, ended] = [utc(interval.fromMs), utc(interval.toMs)];
  const sameDay = began.slice(0, 10) === ended.slice(0, 10);
  return (
    <tr>
      <td>
        <StateBadge state={KINDS[interval.kind] ?? UNKNOWN_KIND} />
      </td>
      <td class={css.time}>{began}</td>
      <td class={css.time}>{interval.open ? "still going on" : sameDay ? ended.slice(11) : ended}</td>
      <td class={right}>{exactSpan(interval.toMs - interval.fromMs)}</td>
      <td class={right}>{exact(interval.chargedMsMicros)}</td>
      <td>
        {interval.beganBecause} → {interval.endedBecause}
        {month && <span class="quiet"> in {monthName(interval.period)}</span>}
      </td>
      <td>
        {interval.positions.map((position) => (
          <>
            <Position key={String(position)} of={position} />{" "}
          </>
        ))}
      </td>
    </tr>
  );
}

function Corrected({ one }: { one: CorrectedOutcome }) {
  return (
    <p class="quiet">
      Corrected: event <Position of={one.position} /> had said {exact(one.chargedMsMicros)} minutes
      {one.interval && `, until ${utc(one.interval.chargedUntilMs)}${one.interval.presumed ? ", presumed" : ""}`}; event{" "}
      <Position of={one.correctedByPosition} /> put it right.
    </p>
  );
}

function Adjustment({ one }: { one: ExplainedAdjustment }) {
  const { milliminutes } = one;
  return (
    <p>
      Adjusted by{" "}
      <b class="number">
        {milliminutes > 0n ? "+" : "−"}
        {minutes(milliminutes < 0n ? -milliminutes : milliminutes)} minutes
      </b>{" "}
      in {monthName(one.period)}: {one.reason}{" "}
      <span class="quiet">
        by {one.actor} at {utc(one.recordedAtMs)}, event <Position of={one.position} />
      </span>
    </p>
  );
}

/** A position of the log; a link for those who may read it. */
function Position({ of }: { of: bigint }) {
  const text = `#${integer(of)}`;
  return mayReadLog.value ? <a href={`/events?position=${of}`}>{text}</a> : <span>{text}</span>;
}
