import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, evaluations, jobs } from "../../api/clients";
import { isUnreachable, sentence } from "../../api/errors";
import { count, integer, metric, metricName, minutes, rate, shortId, span, words } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { Task } from "../../gen/protos/training/v1/training_pb";
import { liveJobs, newest } from "../../live/stores";
import { jobState } from "../../states";
import { now } from "../../time";
import { ButtonLink } from "../../ui/button";
import { CheckField } from "../../ui/fields";
import { Card, Head, Table } from "../../ui/layout";
import { Empty, Failed, Loading, Note, StateBadge } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { colourOf } from "./chart-style";
import css from "./compare.module.css";
import { Curves } from "./compare-curves";
import { results, type Side, sideOf } from "./compare-results";
import { settingsOf } from "./compare-settings";
import { chargedByRecord, phases } from "./progress";

const [FEWEST, MOST] = [2, 6];

/** Two to six trainings side by side: curves, results, settings, cost. */
export default function Compare() {
  const { query } = useLocation();
  const named = [...new Set((query.jobs ?? "").split(",").filter(Boolean))];
  const ids = named.slice(0, MOST).join(",");
  // An evaluation of one that runs changes what there is to compare.
  const moved = ids.split(",").map((id) => liveJobs.value?.get(id)?.evaluatedStep ?? 0n);
  const asked = useAsked(
    (signal) =>
      Promise.all(
        ids
          .split(",")
          .filter(Boolean)
          .map((id) => load(id, signal)),
      ),
    [ids, moved.join(",")],
  );
  const found = asked.value ?? [];
  const sides = found.flatMap((one) => ("job" in one ? [sideOf(newest(one.job), one.evaluations)] : []));
  return (
    <>
      <Head title="Compare trainings" actions={<ButtonLink href="/trainings">Choose others</ButtonLink>}>
        {sides.length > 0 && count(sides.length, "training")}
      </Head>
      <div class={css.page}>
        {named.length > MOST && (
          <Note tone="warn">
            {count(named.length, "training")} were chosen; the first {MOST} are compared.
          </Note>
        )}
        {asked.problem && <Failed retry={asked.reload}>{asked.problem}</Failed>}
        {found.map((one) => "problem" in one && <Note tone="bad" key={one.id}>{`${one.id}: ${one.problem}`}</Note>)}
        {named.length < FEWEST || (asked.value !== undefined && sides.length < FEWEST) ? (
          <Card>
            <Empty
              title="Choose two to six trainings"
              action={
                <ButtonLink kind="primary" href="/trainings">
                  Choose trainings
                </ButtonLink>
              }
            >
              Tick them in the list of trainings and press Compare: their curves are drawn over each other, and their
              settings and results are put side by side.
            </Empty>
          </Card>
        ) : asked.value === undefined ? (
          !asked.problem && (
            <Card>
              <Loading lines={8} what="Loading the trainings" />
            </Card>
          )
        ) : (
          <>
            <Curves sides={sides} />
            <Results sides={sides} />
            <Settings sides={sides} />
          </>
        )}
      </div>
    </>
  );
}

type Loaded =
  | { readonly job: Job; readonly evaluations: Parameters<typeof sideOf>[1] }
  | { readonly id: string; readonly problem: string };

/** One that cannot be shown keeps no other from being compared. Throws where nobody answers, who is asked again. */
async function load(id: string, signal: AbortSignal): Promise<Loaded> {
  try {
    const [{ job }, listed] = await Promise.all([
      jobs.getJob({ jobId: id }, call(signal)),
      evaluations.listEvaluations({ jobId: id }, call(signal)).catch(() => undefined),
    ]);
    if (job === undefined) return { id, problem: "There is no such training." };
    return { job, evaluations: listed?.evaluations ?? [] };
  } catch (error) {
    if (isUnreachable(error)) throw error;
    return { id, problem: sentence(error) };
  }
}

function Heads({ sides, children }: { sides: readonly Side[]; children: ComponentChildren }) {
  return (
    <>
      <th scope="col">{children}</th>
      {sides.map(({ job }, n) => (
        <th key={job.jobId} scope="col" class={css.side}>
          <span class={css.number} style={{ borderColor: `var(${colourOf(n)})` }}>
            {n + 1}
          </span>{" "}
          <a href={`/trainings/${job.jobId}`}>{job.name}</a>
          <div class="quiet">{shortId(job.jobId)}</div>
        </th>
      ))}
    </>
  );
}

function Line({ name, cells, differs }: { name: string; cells: readonly ComponentChildren[]; differs?: boolean }) {
  return (
    <tr class={differs ? css.differs : undefined}>
      <th scope="row">
        {name}
        {differs && <span class="visually-hidden"> (differs)</span>}
      </th>
      {cells.map((cell, n) => (
        <td key={String(n)} class="break">
          {cell ?? "–"}
        </td>
      ))}
    </tr>
  );
}

function Results({ sides }: { sides: readonly Side[] }) {
  const rows = results(sides);
  const tasks = new Set(sides.map((side) => side.task));
  const jobsOf = sides.map((side) => side.job);
  return (
    <Card title="Results" flush>
      <Table label="Results" head={<Heads sides={sides}>Training</Heads>}>
        <Line name="State" cells={jobsOf.map((job) => <StateBadge state={jobState(job)} />)} />
        <Line name="Runner" cells={jobsOf.map((job) => job.runnerName || undefined)} />
        {tasks.size > 1 && <Line name="Task" cells={sides.map((side) => words(Task, side.task))} />}
        <Line name="Best at step" cells={sides.map((side) => (side.step > 0 ? integer(side.step) : undefined))} />
        {rows.map(({ name, values, best }) => (
          <Line
            key={name}
            name={metricName(name)}
            cells={values.map((value, n) =>
              value === undefined ? undefined : best.has(n) ? (
                <strong class={css.best}>
                  {metric(value)} <span aria-hidden="true">★</span>
                  <span class="visually-hidden"> best</span>
                </strong>
              ) : (
                metric(value)
              ),
            )}
          />
        ))}
        <Line name="Compute minutes" cells={jobsOf.map((job) => minutes(chargedByRecord(job, now.value)))} />
        <Line name="Trained for" cells={jobsOf.map((job) => span(phases(job, now.value).trainingMs))} />
        <Line name="Rate" cells={jobsOf.map((job) => (job.rateMicros > 0n ? rate(job.rateMicros) : undefined))} />
      </Table>
      <p class={`${css.foot} quiet`}>
        Metrics of each at its own best evaluation; ★ the best of them
        {tasks.size > 1 ? ", among those of the same task only: what different tasks measure is not compared." : "."}
      </p>
    </Card>
  );
}

function Settings({ sides }: { sides: readonly Side[] }) {
  const [everything, setEverything] = useState(false);
  const specs = sides.map((side) => side.job.spec);
  const ids = sides.map((side) => side.job.jobId).join(",");
  // biome-ignore lint/correctness/useExhaustiveDependencies: the settings of a training never change
  const all = useMemo(() => settingsOf(specs), [ids]);
  const shown = everything ? all : all.filter((one) => one.differs);
  return (
    <Card
      title="Settings"
      flush
      actions={
        <CheckField checked={everything} onChange={setEverything}>
          Show those that are the same too
        </CheckField>
      }
    >
      {shown.length === 0 ? (
        <Empty title="Their settings are the same" />
      ) : (
        <Table label="Settings" head={<Heads sides={sides}>Setting</Heads>}>
          {shown.map((one) => (
            <Line key={one.path} name={one.name} cells={one.values} differs={everything && one.differs} />
          ))}
        </Table>
      )}
    </Card>
  );
}
