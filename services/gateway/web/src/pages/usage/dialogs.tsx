import { useEffect, useState } from "preact/hooks";
import { call, quota } from "../../api/clients";
import { count, integer, minutes } from "../../format";
import type { VerifyUsageResponse } from "../../gen/protos/quota/v1/quota_pb";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { CheckField, SelectField, TextField } from "../../ui/fields";
import { right, Table } from "../../ui/layout";
import { Failed, Loading, Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction, useAsked, useRequestId } from "../../ui/use";
import { asTyped, exact, parsedMinutes } from "./amounts";
import { monthName, shifted } from "./month";

interface QuotaProps {
  /** As they are; minutes × 1000. */
  quota: bigint | undefined;
  used: bigint;
  onClose: () => void;
}

/** Sets how many minutes a month may have. */
export function SetQuota({ quota: known, used, onClose }: QuotaProps) {
  const [text, setText] = useState(known === undefined ? "" : asTyped(known));
  const [unlimited, setUnlimited] = useState(false);
  const [tried, setTried] = useState(false);
  const { busy, problem, run } = useAction();
  const requestId = useRequestId(unlimited ? "unlimited" : text);
  const parsed = parsedMinutes(text);
  const wrong = "problem" in parsed ? parsed.problem : parsed.milliminutes < 0n ? "A quota is not below zero." : "";
  const wanted = "problem" in parsed ? undefined : parsed.milliminutes;
  const submit = async () => {
    setTried(true);
    if (!unlimited && wrong) return;
    const quotaMilliminutes = unlimited ? undefined : wanted;
    if (!(await run(() => quota.setQuota({ requestId, quotaMilliminutes }, call())))) return;
    say(
      quotaMilliminutes === undefined
        ? "Compute minutes are unlimited from now on."
        : `${minutes(quotaMilliminutes)} compute minutes a month from now on.`,
    );
    onClose();
  };
  return (
    <Dialog
      title="Set the quota"
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Set the quota
          </Button>
        </>
      }
    >
      <TextField
        label="Compute minutes a calendar month (UTC)"
        inputMode="decimal"
        value={text}
        onInput={setText}
        disabled={unlimited}
        autoFocus
        placeholder="for example 600"
        problem={tried && !unlimited ? wrong : ""}
        hint="One minute on one NVIDIA T4 is one compute minute."
      />
      <CheckField checked={unlimited} onChange={setUnlimited}>
        Unlimited
      </CheckField>
      {!unlimited && wanted !== undefined && wanted >= 0n && wanted <= used && (
        <Note tone="warn">
          {minutes(used)} minutes are used in this month already: running trainings are stopped at once, and none starts
          before the next month.
        </Note>
      )}
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}

interface AdjustProps {
  /** The month that it is. */
  month: string;
  /** The one that is looked at. */
  chosen: string;
  /** The training that it is about, if one is known. */
  jobId?: string;
  onClose: () => void;
}

/** Adds minutes to a month, or takes some off, with a reason that stays in the log. */
export function AdjustMinutes({ month, chosen, jobId = "", onClose }: AdjustProps) {
  const [text, setText] = useState("");
  const [period, setPeriod] = useState(chosen);
  const [reason, setReason] = useState("");
  const [job, setJob] = useState(jobId);
  const [tried, setTried] = useState(false);
  const { busy, problem, run } = useAction();
  const requestId = useRequestId(JSON.stringify([text, period, reason, job]));
  const parsed = parsedMinutes(text);
  const amount = "problem" in parsed ? 0n : parsed.milliminutes;
  const wrong = "problem" in parsed ? parsed.problem : amount === 0n ? "Zero minutes change nothing." : "";
  const months = [...new Set([chosen, ...Array.from({ length: 13 }, (_, index) => shifted(month, -index))])];
  const submit = async () => {
    setTried(true);
    if (wrong || reason.trim() === "") return;
    const request = { requestId, period, milliminutes: amount, reason: reason.trim(), jobId: job.trim() };
    if (!(await run(() => quota.adjustMinutes(request, call())))) return;
    say(
      `${monthName(period)} is adjusted by ${amount > 0n ? "+" : "−"}${minutes(amount < 0n ? -amount : amount)} minutes.`,
    );
    onClose();
  };
  return (
    <Dialog
      title="Adjust minutes"
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            {amount < 0n ? "Refund" : "Adjust"}
          </Button>
        </>
      }
    >
      <TextField
        label="Minutes"
        inputMode="decimal"
        value={text}
        onInput={setText}
        autoFocus
        placeholder="for example -12.5"
        hint="Below zero for a refund; above zero counts more as used."
        problem={tried ? wrong : ""}
      />
      <SelectField
        label="Month"
        value={period}
        options={months.map((value) => ({ value, label: monthName(value) }))}
        onChange={setPeriod}
      />
      <TextField
        label="Reason"
        value={reason}
        onInput={setReason}
        hint="It stays in the log for those who read it later; name no persons."
        problem={tried && reason.trim() === "" ? "Say in a few words why the minutes are adjusted." : ""}
      />
      <TextField
        label="Training (optional)"
        value={job}
        onInput={setJob}
        placeholder="jb_…"
        hint="The id of the training that it is about; empty: the workspace."
      />
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}

// The replay reads the whole log of the workspace.
const VERIFY_TIMEOUT_MS = 300_000;

/** Recomputes the minutes from the event log, and says whether they are the same. */
export function Verify({ onClose }: { onClose: () => void }) {
  const asked = useAsked((signal) => quota.verifyUsage({}, call(signal, VERIFY_TIMEOUT_MS)), []);
  return (
    <Dialog
      title="Verify the minutes"
      onClose={onClose}
      width={680}
      actions={
        <>
          {asked.value && (
            <Button busy={asked.loading} onClick={asked.reload}>
              Verify again
            </Button>
          )}
          <Button kind="primary" onClick={onClose}>
            Close
          </Button>
        </>
      }
    >
      <p>Every event about minutes is replayed from the first, and the sums are compared with those of this page.</p>
      {asked.loading ? (
        <>
          <Elapsed />
          <Loading lines={2} what="Replaying the event log" />
        </>
      ) : asked.problem ? (
        <Failed retry={asked.reload}>{asked.problem}</Failed>
      ) : (
        asked.value && <Verdict found={asked.value} />
      )}
    </Dialog>
  );
}

function Elapsed() {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return <p class="quiet">Replaying the event log… {seconds > 0 && `${seconds} s`}</p>;
}

function Verdict({ found }: { found: VerifyUsageResponse }) {
  const replayed = `${count(found.eventsReplayed, "event")} about minutes of ${count(found.jobs, "training")}, up to event #${integer(found.position)}`;
  if (found.equal)
    return (
      <Note tone="good">
        Equal: {minutes(found.replayedMilliminutes)} compute minutes of ended trainings, recomputed from {replayed}.
      </Note>
    );
  return (
    <>
      <Note tone="bad">
        Different, after {replayed}. The log is the truth: tell the platform's operator, the quota service rebuilds its
        tables from it.
      </Note>
      <Table
        label="Differences"
        head={
          <>
            <th scope="col">Training or month</th>
            <th scope="col">What</th>
            <th scope="col" class={right}>
              Replayed
            </th>
            <th scope="col" class={right}>
              Recorded
            </th>
          </>
        }
      >
        {found.differences.map((one) => (
          <tr key={`${one.jobId}${one.period}${one.what}`}>
            <td class="break">{one.jobId || one.period}</td>
            <td>{one.what || "minutes"}</td>
            <td class={right}>{one.what === "" && exact(one.replayedMsMicros)}</td>
            <td class={right}>{one.what === "" && exact(one.recordedMsMicros)}</td>
          </tr>
        ))}
      </Table>
    </>
  );
}
