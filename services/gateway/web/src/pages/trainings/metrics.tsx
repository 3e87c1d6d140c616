import { signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { count, moment } from "../../format";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";
import { Button } from "../../ui/button";
import { CheckField } from "../../ui/fields";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading, Note } from "../../ui/note";
import { Chart } from "./chart";
import { type Axis, over, type Range, refined, translate } from "./chart-data";
import { type ChartPlan, sections } from "./chart-groups";
import { ChartLink, type Place } from "./chart-link";
import { placeName } from "./chart-text";
import css from "./metrics.module.css";
import { type Detail, type Live, useDetail, useLive, type Zoom } from "./metrics-live";
import { LastValues } from "./metrics-table";
import { type Seen, seenIn } from "./progress";

// How people want charts stays while they go from training to training.
const smoothing = signal(0);
const log = signal(false);
const axis = signal<Axis>("step");

/** What a training and its box measured, live; `onSeen` is told how far it is. */
export default function Metrics({ job, onSeen }: { job: Job; onSeen?: (seen: Seen) => void }) {
  const live = useLive(job);
  const { curves, version } = live;
  const [zoom, setZoom] = useState<Zoom>();
  const [link] = useState(() => new ChartLink());
  const began = curves.beganMs;
  const timeRange = zoom && rangeOn("time", zoom, live);
  const detail = useDetail(job.jobId, curves, zoom, timeRange);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts up with what the curves hold
  useEffect(() => onSeen?.(seenIn(curves)), [curves, version, onSeen]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: as above
  const groups = useMemo(() => sections([...curves.all.keys()]), [curves, version]);

  if (live.problem) return <Failed>{live.problem}</Failed>;
  if (!live.loaded) return <Loading lines={8} what="Loading the metrics" />;
  if (groups.length === 0) return <Nothing job={job} live={live} />;
  const common = { live, detail, link, zoom, job, reset: () => setZoom(undefined) };
  return (
    <div class={css.page}>
      <Controls zoom={zoom} busy={detail.loading} onReset={() => setZoom(undefined)} />
      {live.interrupted && <Note tone="warn">Nothing new comes at the moment: {live.interrupted}</Note>}
      {detail.problem && <Note tone="bad">{detail.problem}</Note>}
      {live.listed?.refused.map((one) => (
        <Note tone="warn" key={one.reason}>
          {count(one.count, "value")} refused, {one.reason}. The training itself is not held up.
        </Note>
      ))}
      {groups.map((group) => (
        <section key={group.title} aria-label={group.title}>
          <h2 class={css.section}>{group.title}</h2>
          <div class={css.charts}>
            {group.charts.map((plan) => (
              <PlannedChart
                key={plan.title}
                plan={plan}
                axis={group.box ? "time" : axis.value}
                onZoom={(range) => setZoom({ axis: group.box ? "time" : axis.value, range })}
                {...common}
              />
            ))}
          </div>
        </section>
      ))}
      <Card>
        <LastValues curves={curves} version={version} began={began} />
      </Card>
    </div>
  );
}

interface PlannedProps {
  plan: ChartPlan;
  axis: Axis;
  live: Live;
  detail: Detail;
  link: ChartLink;
  zoom: Zoom | undefined;
  job: Job;
  onZoom: (range: Range) => void;
  reset: () => void;
}

function PlannedChart({ plan, axis: on, live, detail, link, zoom, job, onZoom, reset }: PlannedProps) {
  const { curves, version } = live;
  const key = plan.lines.map((line) => line.name).join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for the plan, `version` for the curves
  const lines = useMemo(() => {
    const began = curves.beganMs;
    return plan.lines.flatMap((line, look) => {
      const curve = curves.all.get(line.name);
      const fine = detail.curves.get(line.name);
      if (curve === undefined) return [];
      const points = refined(over(on, curve, began), fine && over(on, fine, began));
      return [{ ...line, id: line.name, points, look }];
    });
  }, [key, curves, version, detail.curves, on]);
  const began = curves.beganMs;
  const to = (x: number, from: Axis) => translate(x, from, on, curves.reference, began);
  const training = plan.lines.some((line) => /^(train\/loss|validation\/)/.test(line.name));
  const saved = job.checkpoints.map((one) => Number(one.step)).join(",");
  // biome-ignore lint/correctness/useExhaustiveDependencies: `saved` stands for the checkpoints
  const marks = useMemo(
    () =>
      training && saved
        ? saved
            .split(",")
            .map((step) => to(Number(step), "step"))
            .filter((x) => x !== undefined)
        : [],
    [training, saved, on, version],
  );
  return (
    <Chart
      title={plan.title}
      lines={lines}
      axis={on}
      smoothing={smoothing.value}
      log={log.value && !plan.lines.some((line) => /_percent$|_bytes$/.test(line.name))}
      range={zoom && rangeOn(on, zoom, live)}
      onZoom={onZoom}
      onReset={reset}
      link={link}
      place={(place: Place) => place && to(place.x, place.axis)}
      marks={marks}
      marksMean="checkpoint"
    />
  );
}

function rangeOn(on: Axis, zoom: Zoom, { curves }: Live): Range | undefined {
  const [from, to] = zoom.range.map((x) => translate(x, zoom.axis, on, curves.reference, curves.beganMs));
  return from === undefined || to === undefined ? undefined : [from, to];
}

function Controls({ zoom, busy, onReset }: { zoom: Zoom | undefined; busy: boolean; onReset: () => void }) {
  const choice = (value: Axis, label: string) => (
    <label class={css.choice}>
      <input
        type="radio"
        name="x-axis"
        checked={axis.value === value}
        onChange={() => {
          axis.value = value;
        }}
      />
      {label}
    </label>
  );
  return (
    <div class={css.controls}>
      <label class={css.slider}>
        Smoothing
        <input
          type="range"
          min="0"
          max="0.99"
          step="0.01"
          value={smoothing.value}
          onInput={(event) => {
            smoothing.value = Number(event.currentTarget.value);
          }}
        />
        <span class="number">{smoothing.value.toFixed(2)}</span>
      </label>
      <fieldset class={css.choices}>
        <legend>Over</legend>
        {choice("step", "steps")}
        {choice("time", "time")}
      </fieldset>
      <CheckField
        checked={log.value}
        onChange={(on) => {
          log.value = on;
        }}
      >
        Logarithmic
      </CheckField>
      <div class={css.zoom} role="status">
        {zoom === undefined ? (
          <span class="quiet">Drag over a chart to look closer, or press + on it.</span>
        ) : (
          <>
            <span>
              {placeName(zoom.axis, zoom.range[0])} to {placeName(zoom.axis, zoom.range[1])}
              {busy && " …"}
            </span>
            <Button small onClick={onReset}>
              Show everything
            </Button>
          </>
        )}
      </div>
    </div>
  );
}

function Nothing({ job, live }: { job: Job; live: Live }) {
  const removed = Number(live.listed?.removedAtMs ?? 0n);
  if (removed > 0)
    return (
      <Empty title="The metrics are not kept any more">
        They were removed {moment(removed)}: the platform keeps them for a limited time after a training's end.
      </Empty>
    );
  if (isOver(job)) return <Empty title="No metrics">This training ended before it measured anything.</Empty>;
  return (
    <Empty title="No metrics yet">
      {job.state === JobState.QUEUED
        ? "It waits for a runner. Curves appear here by themselves once it trains."
        : "Curves appear here by themselves with the first step."}
    </Empty>
  );
}
