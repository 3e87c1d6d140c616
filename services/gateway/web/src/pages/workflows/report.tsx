import { useState } from "preact/hooks";
import { integer, size } from "../../format";
import { Task } from "../../gen/protos/training/v1/training_pb";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { Facts } from "../../ui/layout";
import { Badge } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { type ClassBar, classBars, pixelSizes, place } from "./balance";
import type { KeptReport } from "./catalogue";
import { taskName } from "./formats";
import css from "./workflows.module.css";

const FEW = 20;

/** Usable or not, in a word. */
export function Verdict({ of }: { of: KeptReport }) {
  return of.report.usable ? <Badge tone="good">✔ usable</Badge> : <Badge tone="bad">✘ not usable</Badge>;
}

/** What a check found: verdict, counts, classes as bars, problems with their place. */
export function Report({ of }: { of: KeptReport }) {
  const { report } = of;
  const own = report.trainImages > 0n || report.validationImages > 0n;
  const task = report.task !== Task.UNSPECIFIED && taskName(report.task);
  return (
    <div class={css.report}>
      <p>
        <Verdict of={of} />{" "}
        <span class="quiet">
          looked at on {of.runnerName}, <Ago ms={of.atMs} />
        </span>
      </p>
      <Facts
        of={[
          ["Task", task],
          ["Images", `${integer(report.images)} in ${integer(report.classes.length)} classes, ${size(report.bytes)}`],
          [
            "Own folders",
            own && `${integer(report.trainImages)} to train on, ${integer(report.validationImages)} to validate on`,
          ],
          ["Pixels", pixelSizes(report)],
          ["Fingerprint", report.fingerprint && <code>{report.fingerprint}</code>],
        ]}
      />
      {report.problems.length > 0 && <Problems of={of} />}
      {report.classes.length > 0 && <Classes bars={classBars(report)} task={report.task} />}
    </div>
  );
}

const UNITS: Readonly<Record<number, string>> = { [Task.DETECTION]: "objects", [Task.SEGMENTATION]: "pixels" };

function Classes({ bars, task }: { bars: readonly ClassBar[]; task: Task }) {
  const [all, setAll] = useState(false);
  return (
    <section>
      <h3>Classes by {UNITS[task] ?? "images"}</h3>
      {all ? (
        <Rows label="Classes" items={bars} keyOf={(bar) => bar.name} height={26} window="320px">
          {(bar) => <ClassRow bar={bar} two={UNITS[task] !== undefined} />}
        </Rows>
      ) : (
        <ul class={css.plain}>
          {bars.slice(0, FEW).map((bar) => (
            <li key={bar.name}>
              <ClassRow bar={bar} two={UNITS[task] !== undefined} />
            </li>
          ))}
        </ul>
      )}
      {bars.length > FEW && (
        <Button small kind="ghost" onClick={() => setAll(!all)}>
          {all ? "Show fewer" : `Show all ${integer(bars.length)} classes`}
        </Button>
      )}
    </section>
  );
}

function ClassRow({ bar, two }: { bar: ClassBar; two: boolean }) {
  return (
    <div class={`${css.classRow} ${two ? css.twoCounts : ""}`}>
      <span class={css.ellipsis} title={bar.name}>
        {bar.name}
      </span>
      <span class={css.classBar} aria-hidden="true">
        <span class={css.classFill} style={{ width: `${(bar.share * 100).toFixed(1)}%` }} />
      </span>
      <span class="number quiet">{bar.words}</span>
    </div>
  );
}

function Problems({ of }: { of: KeptReport }) {
  const { problems, problemCount } = of.report;
  return (
    <section>
      <h3>
        {integer(problemCount)} {problemCount === 1n ? "problem" : "problems"}
      </h3>
      <ul class={`${css.plain} ${css.problems}`} tabIndex={0} aria-label="Problems">
        {problems.map((problem) => (
          <li key={`${place(problem)} ${problem.message}`}>
            {problem.fatal ? <Badge tone="bad">✘ prevents training</Badge> : <Badge tone="warn">⚠ put right</Badge>}
            <span class="break">
              {problem.message} {problem.path && <code>{place(problem)}</code>}
            </span>
          </li>
        ))}
      </ul>
      {Number(problemCount) > problems.length && (
        <p class="quiet">and {integer(Number(problemCount) - problems.length)} more like these</p>
      )}
    </section>
  );
}
