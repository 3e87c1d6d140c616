import { useEffect, useMemo, useState } from "preact/hooks";
import { call, metrics } from "../../api/clients";
import { count, integer, moment } from "../../format";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";
import { Button } from "../../ui/button";
import { CheckField, TextField } from "../../ui/fields";
import { Empty, Failed, Loading, Note } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { saveAs } from "../../ui/save";
import { say } from "../../ui/toasts";
import { useAction } from "../../ui/use";
import css from "./logs.module.css";
import { plain } from "./logs-ansi";
import { LogLine } from "./logs-line";
import { type LogRow, rowsOf } from "./logs-lines";
import { type Log, useLog } from "./logs-live";

const TYPED_MS = 300;
// A log of that many bytes is read within this time even over a slow line.
const DOWNLOAD_MS = 600_000;

/** What a training has written, as it writes it. */
export default function Logs({ job }: { job: Job }) {
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [wrap, setWrap] = useState(true);
  const [atEnd, setAtEnd] = useState(true);
  const [toEnd, setToEnd] = useState(0);
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed), typed === "" ? 0 : TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const log = useLog(job, search);
  const attempts = [...job.earlierAttempts.map((one) => one.attemptId), job.attemptId];
  const known = attempts.join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts up with the lines, `known` with attempts
  const rows = useMemo(
    () => rowsOf(log.lines, (attemptId) => attempts.indexOf(attemptId) + 1),
    [log.version, log.lines, known],
  );
  const width = `${String(log.lines.at(-1)?.line ?? 1n).length}ch`;
  return (
    <div class={css.page}>
      <div class={css.bar}>
        <div class={css.search}>
          <TextField
            label="Search"
            type="search"
            value={typed}
            onInput={setTyped}
            placeholder="Text, in whatever case"
          />
        </div>
        <CheckField checked={wrap} onChange={setWrap}>
          Wrap long lines
        </CheckField>
        <Takes job={job} log={log} />
      </div>
      {log.problem && <Failed retry={log.again}>{log.problem}</Failed>}
      {!log.loaded ? (
        !log.problem && <Loading lines={10} what="Loading the log" />
      ) : rows.length === 0 ? (
        !log.problem && <Nothing job={job} search={search} removedAtMs={log.removedAtMs} />
      ) : (
        <div class={css.box} data-wrap={wrap}>
          <Rows<LogRow>
            key={`${search}${wrap}`}
            label={search ? `Lines with “${search}”` : "Log"}
            items={rows}
            keyOf={(row) => row.key}
            height={20}
            window="max(340px, calc(100dvh - 530px))"
            follow
            onStart={log.earlier}
            onAtEnd={setAtEnd}
            toEnd={toEnd}
          >
            {(row) =>
              row.kind === "line" ? (
                <LogLine line={row.line} search={search} numberWidth={width} />
              ) : (
                <div class={css.attempt}>{row.number > 0 ? `Attempt ${row.number}` : "Another attempt"}</div>
              )
            }
          </Rows>
          {!atEnd && (
            <div class={css.jump}>
              <Button small onClick={() => setToEnd(toEnd + 1)}>
                <span aria-hidden="true">↓</span> Jump to the end
              </Button>
            </div>
          )}
        </div>
      )}
      <p class="quiet">{told(log, search)}</p>
    </div>
  );
}

function told(log: Log, search: string): string {
  const [first, last] = [log.lines[0], log.lines.at(-1)];
  if (first === undefined || last === undefined) return "";
  if (log.loadingEarlier) return "Reading earlier lines…";
  if (search) return `${count(log.lines.length, "line")} with “${search}” shown`;
  const before = first.line > 1n ? `; ${integer(first.line - 1n)} before them are read when you scroll up` : "";
  return `${count(log.lines.length, "line")} shown of ${integer(last.line)}${before}`;
}

/** Copies the lines that are shown, or takes all of them along as a file. */
function Takes({ job, log }: { job: Job; log: Log }) {
  const { busy, problem, run } = useAction();
  const copy = () =>
    run(async () => {
      await navigator.clipboard.writeText(log.lines.map((line) => plain(line.text)).join("\n"));
      say(`${count(log.lines.length, "line")} copied.`);
    });
  const download = () =>
    run(async () => {
      const parts: string[] = [];
      for await (const answer of metrics.readLogs({ jobId: job.jobId }, call(undefined, DOWNLOAD_MS)))
        parts.push(answer.lines.map((line) => `${plain(line.text)}\n`).join(""));
      saveAs(`${job.name.replace(/[^\w.-]+/g, "-")}.log`, parts, "text/plain");
    });
  const empty = log.lines.length === 0;
  return (
    <>
      <div class={css.takes}>
        {navigator.clipboard && (
          <Button small disabled={empty} onClick={() => void copy()}>
            Copy
          </Button>
        )}
        <Button small disabled={empty} busy={busy} onClick={() => void download()}>
          Download
        </Button>
      </div>
      {problem && <Note tone="bad">{problem}</Note>}
    </>
  );
}

function Nothing({ job, search, removedAtMs }: { job: Job; search: string; removedAtMs: number }) {
  if (removedAtMs > 0)
    return (
      <Empty title="The log is not kept any more">
        It was removed {moment(removedAtMs)}: the platform keeps it for a limited time after a training's end.
      </Empty>
    );
  if (search) return <Empty title="No line found">No line of this training has “{search}”.</Empty>;
  if (isOver(job)) return <Empty title="No log">This training ended before it wrote anything.</Empty>;
  return (
    <Empty title="Nothing written yet">
      {job.state === JobState.QUEUED
        ? "It waits for a runner; lines appear here by themselves."
        : "Lines appear here by themselves as the training writes them."}
    </Empty>
  );
}
