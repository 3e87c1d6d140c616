import { useEffect, useMemo, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { mayWrite, who } from "../../api/session";
import { count } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { liveJobs } from "../../live/stores";
import { isOver } from "../../states";
import { Button, ButtonLink } from "../../ui/button";
import { Card, Head } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { later } from "./later";
import css from "./list.module.css";
import { FilterBar } from "./list-filter-bar";
import { type Filters, fits, isFiltering, NO_FILTERS, overlaid, parsed, queryOf } from "./list-filters";
import { usePages } from "./list-pages";
import { TrainingRow } from "./list-row";
import { useStale } from "./list-stale";

// The first page that people see does not wait for a dialog that they may open.
const RunTraining = later(async () => ({ default: (await import("../run/run")).RunTraining }));

/** Fewest and most trainings that can be compared. */
const [FEWEST, MOST] = [2, 6];

/** All trainings, newest first; they change by themselves. */
export default function Trainings() {
  const { query, route, path } = useLocation();
  const search = JSON.stringify(query);
  const filters = useMemo(() => parsed(JSON.parse(search)), [search]);
  const change = (next: Filters) => route(`${path}${queryOf(next)}`, true);
  const subject = `token:${who.value?.subjectId ?? ""}`;
  const pages = usePages(filters, subject);
  const live = liveJobs.value;
  const ended = useStale(pages.jobs, live);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `live` is the value of a signal, which changes
  const jobs = useMemo(
    () =>
      pages.jobs &&
      overlaid(pages.jobs, new Map([...ended, ...(live ?? [])]), pages.complete, (job) => fits(job, filters, subject)),
    [pages.jobs, pages.complete, live, ended, filters, subject],
  );
  // A page of a search may hold nothing and still have one after it: whether anything matches is known at the last.
  const empty = jobs?.length === 0;
  const { more } = pages;
  useEffect(() => {
    if (empty) more();
  }, [empty, more]);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const choose = (job: Job, wanted: boolean) =>
    setChosen(wanted ? [...chosen, job.jobId] : chosen.filter((id) => id !== job.jobId));
  const [asking, setAsking] = useState(false);
  const filtering = isFiltering(filters);
  const running = [...(live?.values() ?? [])].filter((job) => !isOver(job)).length;
  return (
    <>
      <Head
        title="Trainings"
        actions={
          mayWrite.value && (
            <Button kind="run" onClick={() => setAsking(true)}>
              Run Training
            </Button>
          )
        }
      >
        {live === undefined
          ? "What your runners train, and have trained"
          : running > 0
            ? `${count(running, "training")} not over`
            : "None runs or waits now"}
      </Head>
      <FilterBar filters={filters} onChange={change} />
      {pages.problem && <Failed retry={pages.reload}>{pages.problem}</Failed>}
      {((jobs !== undefined && !empty) || !pages.problem) && (
        <Card flush>
          {empty && pages.complete && !pages.loading ? (
            <Nothing filtering={filtering} onClear={() => change(NO_FILTERS)} />
          ) : jobs === undefined || empty ? (
            <Loading lines={8} what="Loading the trainings" />
          ) : (
            <>
              <div class={`${css.row} ${css.heads}`} aria-hidden="true">
                <span />
                <span>State</span>
                <span>Training</span>
                <span>Runner</span>
                <span>Result</span>
                <span>Time</span>
              </div>
              <Rows
                label="Trainings"
                items={jobs}
                keyOf={(job) => job.jobId}
                height={62}
                window="max(340px, calc(100dvh - 300px))"
                onEnd={pages.more}
              >
                {(job) => (
                  <TrainingRow
                    job={job}
                    chosen={chosen.includes(job.jobId)}
                    full={chosen.length >= MOST}
                    onChoose={(wanted) => choose(job, wanted)}
                  />
                )}
              </Rows>
            </>
          )}
        </Card>
      )}
      <p class={`quiet ${css.end}`} role="status">
        {jobs !== undefined && (pages.loading ? "Loading…" : told(jobs.length, pages.complete))}
      </p>
      {chosen.length > 0 && <Chosen ids={chosen} onClear={() => setChosen([])} />}
      {asking && <RunTraining onClose={() => setAsking(false)} />}
    </>
  );
}

function told(shown: number, complete: boolean): string {
  if (shown === 0) return "";
  return complete
    ? `${count(shown, "training")}, all that there are`
    : `${count(shown, "training")} so far; scroll for older ones`;
}

/** What was chosen to be compared, and the way there. */
function Chosen({ ids, onClear }: { ids: readonly string[]; onClear: () => void }) {
  return (
    <div class={css.chosen} role="status">
      <span>
        {count(ids.length, "training")} chosen
        {ids.length < FEWEST ? "; choose one more to compare" : ids.length >= MOST ? ", which is the most" : ""}
      </span>
      {ids.length >= FEWEST && (
        <ButtonLink kind="primary" small href={`/compare?jobs=${ids.join(",")}`}>
          Compare
        </ButtonLink>
      )}
      <Button small kind="ghost" onClick={onClear}>
        Clear
      </Button>
    </div>
  );
}

function Nothing({ filtering, onClear }: { filtering: boolean; onClear: () => void }) {
  if (filtering)
    return (
      <Empty title="No training matches" action={<Button onClick={onClear}>Show all trainings</Button>}>
        Nothing fits these filters.
      </Empty>
    );
  return (
    <Empty
      title="No training yet"
      action={
        mayWrite.value && (
          <ButtonLink kind="primary" href="/workflows">
            Make a workflow
          </ButtonLink>
        )
      }
    >
      A workflow is a dataset and a model architecture.{" "}
      {mayWrite.value ? "Make one and press Run Training." : "A member can make one and run it."}
    </Empty>
  );
}
