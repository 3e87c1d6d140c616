import { useMemo, useState } from "preact/hooks";
import { call, metrics } from "../../api/clients";
import { metricName, words } from "../../format";
import { Task } from "../../gen/protos/training/v1/training_pb";
import { isOver } from "../../states";
import { CheckField, SelectField } from "../../ui/fields";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { useAsked, useEvery } from "../../ui/use";
import { Chart, type ChartLine } from "./chart";
import { type Axis, over, type Range } from "./chart-data";
import css from "./compare.module.css";
import { type Choice, choices, type Side } from "./compare-results";
import { curveOf, ofBox } from "./curves";
import { ShareSlider } from "./preview-slider";

const POINTS = 1500;
const LOOK_MS = 5000;

/** One metric of all trainings over each other. */
export function Curves({ sides }: { sides: readonly Side[] }) {
  const ids = sides.map((side) => side.job.jobId).join(",");
  const measured = sides.map((side) => side.job.evaluatedStep).join(",");
  const names = useAsked(
    (signal) =>
      Promise.all(
        sides.map(async ({ job, task }) => {
          const { series } = await metrics.listSeries({ jobId: job.jobId }, call(signal));
          return { task, names: series.map((one) => one.name).filter((name) => !ofBox(name)) };
        }),
      ),
    [ids, measured],
  );
  const [picked, setPicked] = useState<string>();
  const found = useMemo(() => choices(names.value ?? []), [names.value]);
  const chosen = found.find((one) => keyOf(one) === picked) ?? found[0];
  if (names.value === undefined)
    return (
      <Card title="Curves">
        {names.problem ? <Failed retry={names.reload}>{names.problem}</Failed> : <Loading what="Loading the curves" />}
      </Card>
    );
  if (chosen === undefined)
    return (
      <Card title="Curves">
        <Empty title="Nothing was measured yet">Curves appear here by themselves once one of them trains.</Empty>
      </Card>
    );
  const tasks = new Set(sides.map((side) => side.task));
  const label = ({ name, task }: Choice) =>
    tasks.size > 1 && task !== undefined && found.filter((one) => one.name === name).length > 1
      ? `${nameOf(name)}, ${words(Task, task)}`
      : nameOf(name);
  return (
    <Card
      title="Curves"
      actions={
        <div class={css.metric}>
          <SelectField
            label="Metric"
            value={keyOf(chosen)}
            options={found.map((one) => ({ value: keyOf(one), label: label(one) }))}
            onChange={setPicked}
          />
        </div>
      }
    >
      <Overlaid
        // A zoom, and points, of another metric mean nothing here.
        key={`${ids} ${keyOf(chosen)}`}
        title={label(chosen)}
        name={chosen.name}
        sides={sides}
        drawn={sides.filter(
          (side, n) =>
            (chosen.task === undefined || side.task === chosen.task) && names.value?.[n]?.names.includes(chosen.name),
        )}
      />
    </Card>
  );
}

interface OverlaidProps {
  title: string;
  name: string;
  /** All, so that each keeps its colour whatever is drawn. */
  sides: readonly Side[];
  drawn: readonly Side[];
}

function Overlaid({ title, name, sides, drawn }: OverlaidProps) {
  const [axis, setAxis] = useState<Axis>("step");
  const [smoothing, setSmoothing] = useState(0);
  const [log, setLog] = useState(false);
  const [range, setRange] = useState<Range>();
  const asked = useAsked(
    (signal) =>
      Promise.all(
        drawn.map(async ({ job }) => {
          const request = { jobId: job.jobId, names: [name], maxPoints: POINTS };
          const { series } = await metrics.queryMetrics(request, call(signal));
          return series.map(curveOf)[0];
        }),
      ),
    [drawn.map((side) => side.job.jobId).join(","), name],
  );
  const running = drawn.some((side) => !isOver(side.job));
  const { reload, value } = asked;
  useEvery(running ? LOOK_MS : 0, reload, asked.loading);
  const order = sides.map((side) => side.job.jobId).join(",");
  // biome-ignore lint/correctness/useExhaustiveDependencies: `order` stands for the sides
  const lines = useMemo(
    () =>
      drawn.flatMap(({ job }, n): ChartLine[] => {
        const curve = value?.[n];
        if (curve === undefined) return [];
        // Each from its own beginning, so that they lie over each other.
        const points = over(axis, curve, curve.atMs[0] ?? 0);
        const look = sides.findIndex((side) => side.job.jobId === job.jobId);
        return [{ id: job.jobId, name, label: `${look + 1} ${job.name}`, points, look }];
      }),
    [value, axis, name, order],
  );
  return (
    <div class={css.curves}>
      {asked.problem && <Failed retry={reload}>{asked.problem}</Failed>}
      <div class={css.controls}>
        <fieldset class={css.axis}>
          <legend>Over</legend>
          {(["step", "time"] as const).map((one) => (
            <label key={one}>
              <input
                type="radio"
                name="compare-axis"
                checked={axis === one}
                onChange={() => {
                  setAxis(one);
                  setRange(undefined);
                }}
              />
              {one === "step" ? "steps" : "time since the first point"}
            </label>
          ))}
        </fieldset>
        <ShareSlider
          label="Smoothing"
          value={smoothing}
          onInput={(share) => setSmoothing(Math.min(share, 0.95))}
          words={smoothing.toFixed(2)}
        />
        <CheckField checked={log} onChange={setLog}>
          Logarithmic
        </CheckField>
      </div>
      {value === undefined ? (
        !asked.problem && <Loading lines={6} what="Loading the curves" />
      ) : (
        <Chart
          title={title}
          lines={lines}
          axis={axis}
          smoothing={smoothing}
          log={log}
          range={range}
          onZoom={setRange}
          onReset={() => setRange(undefined)}
          height={300}
        />
      )}
    </div>
  );
}

function keyOf({ name, task }: Choice): string {
  return `${name} ${task ?? ""}`;
}

/** `validation accuracy`, `train loss`. */
function nameOf(name: string): string {
  return name.startsWith("validation/") ? `validation ${metricName(name)}` : name.replaceAll(/[/_]/g, " ");
}
