// Results of several trainings side by side. What different tasks measure has nothing to do with each other. Pure.
import { byImportance, PRIMARY_METRICS, VALIDATION_LOSS } from "../../format";
import type { Evaluation } from "../../gen/protos/metrics/v1/ingest_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { Task } from "../../gen/protos/training/v1/training_pb";

/** One of the trainings, with the best of its evaluations by its task's own metric. */
export interface Side {
  readonly job: Job;
  readonly task: Task;
  /** Zero before the first evaluation. */
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export function sideOf(job: Job, evaluations: readonly Evaluation[]): Side {
  const best = bestEvaluation(evaluations);
  return {
    job,
    task: job.spec?.architecture?.task ?? Task.UNSPECIFIED,
    step: Number(best?.step ?? job.evaluatedStep),
    metrics: best?.metrics ?? job.metrics,
  };
}

/** By the task's own metric, else by the loss; of equals the earliest. */
export function bestEvaluation(evaluations: readonly Evaluation[]): Evaluation | undefined {
  let [best, most] = [undefined as Evaluation | undefined, Number.NEGATIVE_INFINITY];
  for (const one of evaluations) {
    const name = [...PRIMARY_METRICS, VALIDATION_LOSS].find((metric) => metric in one.metrics);
    const value = name === undefined ? Number.NaN : (one.metrics[name] ?? Number.NaN);
    const rank = Number.isNaN(value) ? Number.NEGATIVE_INFINITY : name === VALIDATION_LOSS ? -value : value;
    if (best === undefined || rank > most) [best, most] = [one, rank];
  }
  return best;
}

export interface Row {
  readonly name: string;
  /** In the order of the sides; undefined: not measured. */
  readonly values: readonly (number | undefined)[];
  /** Indices of the sides that are best among those of their task. */
  readonly best: ReadonlySet<number>;
}

/** Every metric, the most important first. */
export function results(sides: readonly Side[]): Row[] {
  const names = byImportance([...new Set(sides.flatMap((side) => Object.keys(side.metrics)))]);
  return names.map((name) => {
    const values = sides.map((side) => side.metrics[name]);
    return { name, values, best: bestOf(name, values, sides) };
  });
}

/** Only where at least two of a task have it, and differ in it. */
function bestOf(name: string, values: readonly (number | undefined)[], sides: readonly Side[]): Set<number> {
  const found = new Set<number>();
  for (const task of new Set(sides.map((side) => side.task))) {
    const of = [...values.entries()].filter(
      (one): one is [number, number] => sides[one[0]]?.task === task && Number.isFinite(one[1]),
    );
    const numbers = of.map(([, value]) => value);
    if (new Set(numbers).size < 2) continue;
    const best = name.endsWith("loss") ? Math.min(...numbers) : Math.max(...numbers);
    for (const [at, value] of of) if (value === best) found.add(at);
  }
  return found;
}

/** A curve that trainings have in common. */
export interface Choice {
  readonly name: string;
  /** The task whose trainings are drawn; undefined: all, as the number means the same in each. */
  readonly task: Task | undefined;
}

// Means the same whatever is trained.
const ANY_TASK = /^(train\/)?(learning_rate|lr|epoch|gradient_norm|images_per_second|step_seconds)$/;

/** What can be drawn, the most important first: of losses and metrics the trainings of one task at a time. */
export function choices(sides: readonly { task: Task; names: readonly string[] }[]): Choice[] {
  const names = byImportance([...new Set(sides.flatMap((side) => side.names))]);
  const found = names.flatMap((name): Choice[] => {
    const tasks = [...new Set(sides.filter((side) => side.names.includes(name)).map((side) => side.task))];
    if (tasks.length === 1 || ANY_TASK.test(name)) return [{ name, task: tasks.length === 1 ? tasks[0] : undefined }];
    return tasks.map((task) => ({ name, task }));
  });
  // What more of them have is more worth comparing; the order is kept otherwise.
  const common = ({ name, task }: Choice) =>
    sides.filter((side) => side.names.includes(name) && (task === undefined || side.task === task)).length;
  return found
    .map((one) => [one, common(one)] as const)
    .sort((a, b) => b[1] - a[1])
    .map(([one]) => one);
}
