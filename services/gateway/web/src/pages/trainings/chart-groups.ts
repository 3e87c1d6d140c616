// Which series are drawn together. Pure.
import { byImportance, metricName } from "../../format";
import { ofBox } from "./curves";

export interface ChartPlan {
  readonly title: string;
  readonly lines: readonly { readonly name: string; readonly label: string }[];
}

export interface Section {
  readonly title: string;
  /** By the box's clock only: its steps mean nothing to people. */
  readonly box: boolean;
  readonly charts: readonly ChartPlan[];
}

// More lines than there are colours cannot be told apart.
const MOST_LINES = 8;

/** Charts of all series, in the order in which people look at them. */
export function sections(names: readonly string[]): Section[] {
  const training = names.filter((name) => !ofBox(name));
  const box = names.filter(ofBox);
  return [
    { title: "Training", box: false, charts: trainingCharts(training) },
    { title: "The box", box: true, charts: boxCharts(box) },
  ].filter((section) => section.charts.length > 0);
}

function trainingCharts(names: readonly string[]): ChartPlan[] {
  const loss = names.filter((name) => /^(train|validation)\/loss$/.test(name));
  const parts = names.filter((name) => /loss/.test(name) && !loss.includes(name));
  const metrics = byImportance(names.filter((name) => name.startsWith("validation/") && !/loss/.test(name)));
  const rate = names.filter((name) => /(^|\/)(learning_rate|lr)$/.test(name));
  const rest = names.filter((name) => ![loss, parts, metrics, rate].some((taken) => taken.includes(name)));
  const lossLabels: Record<string, string> = { "train/loss": "training", "validation/loss": "validation" };
  return [
    ...chart(
      "Loss",
      loss.sort((a, b) => a.localeCompare(b)),
      (name) => lossLabels[name] ?? name,
    ),
    ...metricCharts(metrics),
    ...chart("Learning rate", rate, () => "learning rate"),
    ...chart("Parts of the loss", parts, (name) => name),
    ...byPrefix(rest),
  ];
}

/** The metrics of the validation images; many of them are drawn by family: all mAP together, all AR together. */
function metricCharts(names: readonly string[]): ChartPlan[] {
  const title = "Metrics on the validation images";
  if (names.length <= 6) return chart(title, names, metricName);
  const families = new Map<string, string[]>();
  for (const name of names) {
    const family = metricName(name).split(" ")[0] ?? "";
    families.set(family, [...(families.get(family) ?? []), name]);
  }
  const alone = [...families.values()].filter((some) => some.length === 1).flat();
  return [
    ...[...families]
      .filter(([, some]) => some.length > 1)
      .flatMap(([family, some]) => chart(`${family} on the validation images`, some, metricName)),
    ...chart(title, alone, metricName),
  ];
}

// Endings of names that measure the same are drawn together, whichever GPU or process they are of.
const BOX_CHARTS: readonly [title: string, pattern: RegExp][] = [
  ["GPU utilisation", /^gpu\d*\/utilization_percent$/],
  ["GPU memory", /^gpu\d*\/memory_(used|total)_bytes$/],
  ["GPU temperature", /^gpu\d*\/temperature/],
  ["GPU power", /^gpu\d*\/power/],
  ["GPU clock", /^gpu\d*\/.*clock/],
  ["CPU utilisation", /^(cpu|process)\/(cpu_)?utilization_percent$/],
  ["RAM", /^(cpu|process)\/memory_/],
  ["Disk", /^disk\//],
  ["Network", /^network\//],
];

const BOX_LABELS: Record<string, string> = {
  "cpu/utilization_percent": "whole box",
  "process/cpu_utilization_percent": "training (100 % is one core)",
  "cpu/memory_used_bytes": "whole box",
  "cpu/memory_total_bytes": "there is",
  "process/memory_used_bytes": "training",
  "disk/used_bytes": "used",
  "disk/total_bytes": "there is",
};

function boxCharts(names: readonly string[]): ChartPlan[] {
  const taken = new Set<string>();
  const known = BOX_CHARTS.flatMap(([title, pattern]) => {
    const some = names.filter((name) => pattern.test(name) && !taken.has(name));
    for (const name of some) taken.add(name);
    return chart(title, some, boxLabel);
  });
  return [...known, ...byPrefix(names.filter((name) => !taken.has(name)))];
}

function boxLabel(name: string): string {
  const gpu = /^gpu(\d*)\/(.*)$/.exec(name);
  if (gpu === null) return BOX_LABELS[name] ?? metricName(name.replace(/^\w+\//, ""));
  return `GPU ${gpu[1] ?? ""}${gpu[2] === "memory_total_bytes" ? ", there is" : ""}`;
}

function byPrefix(names: readonly string[]): ChartPlan[] {
  const prefixes = new Map<string, string[]>();
  for (const name of names) {
    const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
    prefixes.set(prefix, [...(prefixes.get(prefix) ?? []), name]);
  }
  return [...prefixes].flatMap(([prefix, some]) => chart(prefix || "Others", some, (name) => shorter(name, prefix)));
}

function shorter(name: string, prefix: string): string {
  return metricName(prefix && name.length > prefix.length + 1 ? name.slice(prefix.length + 1) : name);
}

function chart(title: string, names: readonly string[], label: (name: string) => string): ChartPlan[] {
  const plans: ChartPlan[] = [];
  for (let n = 0; n < names.length; n += MOST_LINES) {
    const lines = names.slice(n, n + MOST_LINES).map((name) => ({ name, label: label(name) }));
    plans.push({ title: n === 0 ? title : `${title}, ${n / MOST_LINES + 1}`, lines });
  }
  return plans;
}
