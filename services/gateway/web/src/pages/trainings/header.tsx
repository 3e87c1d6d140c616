import { useState } from "preact/hooks";
import { call, quota } from "../../api/clients";
import { mayWrite, who } from "../../api/session";
import { capitalized, count, integer, minutes, moment, rate, span } from "../../format";
import type { ExplainChargeResponse } from "../../gen/protos/quota/v1/quota_pb";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { attempt, cutOff, isCutOff, isOver, jobState, reason } from "../../states";
import { now } from "../../time";
import { Button, ButtonLink } from "../../ui/button";
import { Facts, Head } from "../../ui/layout";
import { Bar, Note, Simulated, StateBadge } from "../../ui/note";
import { useAsked, useEvery } from "../../ui/use";
import { Banner } from "./banner";
import {
  accrued,
  chargedByRecord,
  leftMs,
  phases,
  type Seen,
  shareDone,
  stepOf,
  stepsPerEpoch,
  totalSteps,
} from "./progress";
import { limitWords, settings } from "./settings-words";
import { StopTraining } from "./stop";
import css from "./training.module.css";
import { bestMetric, doubts, lastMetric, outcome } from "./why";

const COST_EVERY_MS = 15_000;
// The quota service hears of an end a moment later.
const END_EVERY_MS = 1_000;

/** What a training is, how far it is, and what it costs. */
export function Header({ job, seen }: { job: Job; seen: Seen }) {
  const [stopping, setStopping] = useState(false);
  const explained = useCharge(job);
  const over = isOver(job);
  const stoppable = !over && job.state !== JobState.STOPPING;
  const more = [attempt(job), cutOff(job.deadlineAtMs, now.value)].filter(Boolean).join(" · ");
  return (
    <>
      <Head
        title={job.name}
        actions={
          mayWrite.value && (
            <>
              {stoppable && (
                <Button kind="danger" onClick={() => setStopping(true)}>
                  {job.state === JobState.QUEUED ? "Take out of the queue…" : "Stop training…"}
                </Button>
              )}
              {over && job.checkpoints.length > 0 && (
                <ButtonLink href={`/trainings/${job.jobId}/checkpoints`}>Resume from a checkpoint</ButtonLink>
              )}
            </>
          )
        }
      >
        <span class={css.under}>
          <StateBadge state={isCutOff(job) ? { ...jobState(job), tone: "warn" } : jobState(job)} more={more} />
          {job.runnerId && (
            <span>
              on <a href={`/runners/${job.runnerId}`}>{job.runnerName}</a>
            </span>
          )}
          {job.simulated && <Simulated />}
          <span class="quiet">submitted {moment(Number(job.submittedAtMs))}</span>
        </span>
      </Head>
      <Banner job={job} />
      {over && <End job={job} explained={explained} />}
      {job.state === JobState.QUEUED && (
        <Note tone="busy">
          {job.queuePosition > 0 ? `Number ${job.queuePosition} in the queue, ` : "In the queue, "}
          waits for {job.waitingFor || "a runner"}. It is taken out {moment(Number(job.queueExpiresAtMs))} if no runner
          takes it.
        </Note>
      )}
      {job.warnings.map((warning) => (
        <Note tone="warn" key={warning}>
          {capitalized(warning)}
        </Note>
      ))}
      <Figures job={job} seen={seen} explained={explained} />
      <details class={css.details}>
        <summary class={css.fold}>
          Settings: {job.spec?.architecture?.architectureId} on {job.spec?.dataset?.name}
          {limitWords(job.spec?.limits) && `, ${limitWords(job.spec?.limits)}`}
        </summary>
        <div class={css.settings}>
          <Facts of={job.spec ? settings(job.spec) : []} />
          <Facts of={started(job)} />
        </div>
      </details>
      {stopping && stoppable && <StopTraining job={job} onClose={() => setStopping(false)} />}
    </>
  );
}

function started(job: Job) {
  const begun = job.interval?.startedAtMs ?? 0n;
  return [
    ["Weights", job.weights],
    ["Images a step", job.batchSize > 0 && integer(job.batchSize)],
    ["Rate", job.rateMicros > 0n && rate(job.rateMicros)],
    ["Started", begun > 0n && moment(Number(begun))],
    ["Submitted by", job.submittedBy === `token:${who.value?.subjectId}` ? "you" : job.submittedBy],
    ["Goes on from", job.resumedJobId && <a href={`/trainings/${job.resumedJobId}`}>an earlier training</a>],
    ...job.earlierAttempts.map(
      (one, n) =>
        [
          `Attempt ${n + 1}`,
          `${[reason(one.reason), one.message].filter(Boolean).join(": ")} (${count(one.steps, "step")} on ${one.runnerName})`,
        ] as const,
    ),
    ["Id", <code>{job.jobId}</code>],
  ] as const;
}

/** The end in one sentence, what it cost, and what is not certain of it. */
function End({ job, explained }: { job: Job; explained: ExplainChargeResponse | undefined }) {
  const tone = job.state === JobState.FINISHED ? "good" : job.state === JobState.FAILED ? "bad" : "warn";
  const cost = explained?.milliminutes ?? chargedByRecord(job, now.peek());
  return (
    <Note tone={tone}>
      <p>
        {outcome(job)} It cost {minutes(cost)} minutes. <a href={`/usage?job=${job.jobId}`}>How they are counted</a>
      </p>
      {doubts(job, explained).map((sentence) => (
        <p key={sentence}>{sentence}</p>
      ))}
    </Note>
  );
}

function Figures({ job, seen, explained }: { job: Job; seen: Seen; explained: ExplainChargeResponse | undefined }) {
  const at = isOver(job) ? 0 : now.value;
  const share = shareDone(job, seen, at);
  const left = leftMs(job, seen, at);
  const [step, total, perEpoch] = [stepOf(job, seen), totalSteps(job, seen), stepsPerEpoch(job, seen)];
  const epochs = job.spec?.limits?.epochs ?? 0;
  const epoch = isOver(job) && job.epochs > 0 ? job.epochs : perEpoch > 0 ? Math.ceil(step / perEpoch) : 0;
  const spent =
    explained !== undefined
      ? accrued(explained.milliminutes, Number(explained.asOfMs), job, at)
      : chargedByRecord(job, at);
  const time = phases(job, at);
  const parts = [
    ["waiting", time.waitingMs],
    ["checks and downloads", time.preparingMs],
    ["saving", time.savingMs],
  ] as const;
  return (
    <div class={css.figures}>
      <div class={css.figure}>
        <h2>Progress</h2>
        <p class={css.big}>
          {step > 0 ? `step ${integer(step)}` : "not begun"}
          {total > 0 && step > 0 && <span class="quiet"> of {integer(total)}</span>}
        </p>
        {share !== undefined && !isOver(job) && <Bar share={share} welcome label="Done of its limit" />}
        <p class="quiet">
          {[
            epoch > 0 && `epoch ${integer(epoch)}${epochs > 0 ? ` of ${integer(epochs)}` : ""}`,
            left !== undefined && `about ${span(left)} left`,
          ]
            .filter(Boolean)
            .join(" · ")}
        </p>
      </div>
      <div class={css.figure}>
        <h2>Result</h2>
        <p class={css.big}>{lastMetric(job) || "none yet"}</p>
        <p class="quiet">
          {[job.evaluatedStep > 0n && `last evaluated at step ${integer(job.evaluatedStep)}`, bestMetric(job)]
            .filter(Boolean)
            .join(" · ")}
        </p>
      </div>
      <div class={css.figure}>
        <h2>Training time</h2>
        <p class={css.big}>{span(time.trainingMs)}</p>
        <p class="quiet">
          {parts
            .filter(([, ms]) => ms >= 50)
            .map(([name, ms]) => `${name} ${span(ms)}`)
            .join(", ")}
          {parts.some(([, ms]) => ms >= 50) && " (free)"}
        </p>
      </div>
      <div class={css.figure}>
        <h2>{isOver(job) ? "Cost" : "Cost so far"}</h2>
        <p class={css.big}>{minutes(spent)} minutes</p>
        <p class="quiet">
          {job.rateMicros > 0n && `${rate(job.rateMicros)} · `}
          <a href={`/usage?job=${job.jobId}`}>explained</a>
        </p>
      </div>
    </div>
  );
}

/**
 * The charge as the quota service counts it, asked now and then while it grows; undefined while it is not known, and
 * where it does not know of an end yet.
 */
function useCharge(job: Job): ExplainChargeResponse | undefined {
  const begun = (job.interval?.startedAtMs ?? 0n) > 0n || job.earlierAttempts.length > 0;
  const asked = useAsked(
    async (signal) => (begun ? quota.explainCharge({ jobId: job.jobId }, call(signal)) : undefined),
    [job.jobId, job.version, begun],
  );
  const over = isOver(job);
  const open = asked.value?.attempts.some((attempt) => attempt.intervals.some((one) => one.open)) === true;
  // An end is not told while the quota service is away: no need to ask for it more often than for anything else then.
  const every = !over ? COST_EVERY_MS : !open ? 0 : asked.problem ? COST_EVERY_MS : END_EVERY_MS;
  useEvery(every, asked.reload, asked.loading);
  return over && open ? undefined : asked.value;
}
