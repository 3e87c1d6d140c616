// Rows of a breakdown, with their shares of the whole. Pure.
import { UsageGrouping, type UsageRow } from "../../gen/protos/quota/v1/quota_pb";
import { shareOf } from "./amounts";

export interface Grouping {
  readonly id: string;
  readonly label: string;
  /** Heading of the column with the names. */
  readonly one: string;
  readonly value: UsageGrouping;
}

export const GROUPINGS: readonly Grouping[] = [
  { id: "runner", label: "Runners", one: "Runner", value: UsageGrouping.RUNNER },
  { id: "gpu", label: "GPU types", one: "GPU type", value: UsageGrouping.GPU_TYPE },
  { id: "person", label: "People", one: "Person", value: UsageGrouping.PERSON },
  { id: "day", label: "Days", one: "Day (UTC)", value: UsageGrouping.DAY },
  { id: "workflow", label: "Workflows", one: "Workflow", value: UsageGrouping.WORKFLOW },
  { id: "training", label: "Trainings", one: "Training", value: UsageGrouping.JOB },
];

export interface Part {
  readonly key: string;
  readonly name: string;
  /** Where it can be looked at; empty: nowhere. */
  readonly href: string;
  readonly msMicros: bigint;
  readonly cutOff: bigint;
  readonly jobs: number;
  /** Of the whole. */
  readonly share: number;
  /** Of the largest row: how long its bar is. */
  readonly length: number;
}

export interface Whole {
  readonly parts: readonly Part[];
  readonly msMicros: bigint;
  readonly cutOff: bigint;
}

/** The rows and what they add up to, exactly. `names` says what people call a key. */
export function wholeOf(rows: readonly UsageRow[], by: string, names: ReadonlyMap<string, string>): Whole {
  const msMicros = rows.reduce((sum, row) => sum + row.chargedMsMicros, 0n);
  const cutOff = rows.reduce((sum, row) => sum + row.cutOffMsMicros, 0n);
  let largest = 0n;
  for (const row of rows) if (row.chargedMsMicros > largest) largest = row.chargedMsMicros;
  const parts = rows.map((row) => ({
    key: row.key,
    name: nameOf(row, names),
    href: hrefOf(row.key, by),
    msMicros: row.chargedMsMicros,
    cutOff: row.cutOffMsMicros,
    jobs: row.jobs,
    share: Math.max(shareOf(row.chargedMsMicros, msMicros), 0),
    length: Math.max(shareOf(row.chargedMsMicros, largest), 0),
  }));
  return { parts, msMicros, cutOff };
}

function nameOf(row: UsageRow, names: ReadonlyMap<string, string>): string {
  if (row.key === "") return "adjustments of no training";
  return names.get(row.key) || row.name || row.key;
}

function hrefOf(key: string, by: string): string {
  // Neither what was adjusted nor the row of all that are too small for one of their own is anything's id.
  if (key === "" || key === "*") return "";
  if (by === "runner") return `/runners/${key}`;
  if (by === "training") return `/trainings/${key}`;
  // Without a saved workflow the key is made of the dataset and the architecture.
  return by === "workflow" && !key.includes("/") ? `/workflows/${key}` : "";
}
