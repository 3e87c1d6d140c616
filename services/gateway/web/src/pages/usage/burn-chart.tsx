import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, minutes, moment } from "../../format";
import type { Burn, Forecast } from "./burn";
import { layOut, nearestSpot, type Spot } from "./burn-layout";
import { monthName } from "./month";
import css from "./usage.module.css";

const HEIGHT = 260;

interface BurnChartProps {
  period: string;
  burn: Burn;
  /** Minutes × 1000; undefined: unlimited. */
  quota: bigint | undefined;
  /** What the end of the line is called. */
  nowName: string;
}

/** The month as a line: what is left of the quota, or what was used; and where it goes. */
export function BurnChart({ period, burn, quota, nowName }: BurnChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(640);
  const [pointed, setPointed] = useState<Spot>();
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => setWidth(Math.round(element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const limit = quota === undefined ? undefined : Number(quota) / 1000;
  const layout = useMemo(() => layOut(burn, limit, width, HEIGHT), [burn, limit, width]);
  const { frame, spots } = layout;
  const line = spots.map((spot) => `${spot.x.toFixed(1)},${spot.y.toFixed(1)}`).join(" ");
  const end = spots.at(-1);
  const kind = quota === undefined ? "used" : "left";
  const shown = pointed ?? end;
  return (
    <figure class={css.figure}>
      <div ref={box}>
        <svg
          class={css.chart}
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={`Minutes ${kind} in ${monthName(period)}: ${told(end)} ${nowName}`}
          onPointerMove={(event) => setPointed(nearestSpot(spots, event.offsetX))}
          onPointerLeave={() => setPointed(undefined)}
        >
          {layout.levels.map((level) => (
            <g key={level.label}>
              <line class={css.grid} x1={frame.left} x2={frame.right} y1={level.y} y2={level.y} />
              <text class={css.tick} x={frame.left - 8} y={level.y + 4} text-anchor="end">
                {level.label}
              </text>
            </g>
          ))}
          {layout.days.map((day) => (
            <text key={day.label} class={css.tick} x={day.x} y={frame.bottom + 18} text-anchor="middle">
              {day.label}
            </text>
          ))}
          {layout.thresholds.map((threshold) => (
            <g key={threshold.percent}>
              <line class={css.threshold} x1={frame.left} x2={frame.right} y1={threshold.y} y2={threshold.y} />
              <text class={css.thresholdText} x={frame.left + 6} y={threshold.y - 4}>
                {threshold.percent} % used
              </text>
            </g>
          ))}
          {end && (
            <polygon
              class={css.area}
              points={`${frame.left},${frame.bottom} ${line} ${end.x.toFixed(1)},${frame.bottom}`}
            />
          )}
          {layout.forecasts.map(({ by, from, to }) => (
            <line
              key={by}
              class={by === "running" ? css.running : css.average}
              x1={from.x}
              y1={from.y}
              x2={to.x}
              y2={to.y}
            />
          ))}
          <polyline class={css.curve} points={line} />
          {end && burn.untilMs < burn.endMs && (
            <>
              <line class={css.today} x1={end.x} x2={end.x} y1={frame.top} y2={frame.bottom} />
              <text
                class={css.tick}
                x={end.x + (end.x > width / 2 ? -6 : 6)}
                y={frame.bottom - 8}
                text-anchor={end.x > width / 2 ? "end" : "start"}
              >
                {nowName}
              </text>
            </>
          )}
          {shown && <circle class={css.spot} cx={shown.x} cy={shown.y} r="4.5" />}
        </svg>
      </div>
      <figcaption class={css.legend}>
        <span>
          <Dash class={css.curve} /> minutes {kind}: <b class="number">{told(shown)}</b>{" "}
          {shown && shown !== end ? `at ${moment(shown.atMs)}` : nowName}
        </span>
        {burn.forecasts.map((forecast) => (
          <span key={forecast.by}>
            <Dash class={forecast.by === "running" ? css.running : css.average} />{" "}
            {forecastWords(forecast, burn, quota)}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

function Dash({ class: className }: { class: string | undefined }) {
  return (
    <svg class={css.dash} width="26" height="8" aria-hidden="true">
      <line class={className} x1="0" y1="4" x2="26" y2="4" />
    </svg>
  );
}

function told(spot: Spot | undefined): string {
  return minutes(Math.round((spot?.value ?? 0) * 1000));
}

function forecastWords(forecast: Forecast, burn: Burn, quota: bigint | undefined): string {
  const supposed =
    forecast.by === "running"
      ? `If what runs now goes on (${minutes(forecast.perHour)} an hour)`
      : `If days are as ${burn.averageDays === 1 ? "today" : `the last ${count(burn.averageDays, "day")}`} (${minutes(forecast.perHour * 24n)} a day)`;
  if (forecast.usedUpAtMs > 0) return `${supposed}: used up at ${moment(forecast.usedUpAtMs)}`;
  const end = quota === undefined ? `${minutes(forecast.atEnd)} used` : `${minutes(quota - forecast.atEnd)} left`;
  return `${supposed}: ${end} at the end of the month`;
}
