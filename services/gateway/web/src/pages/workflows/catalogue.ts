import { signal } from "@preact/signals";
import { call, workflows } from "../../api/clients";
import type { Architecture, Dataset, DatasetReport } from "../../gen/protos/training/v1/training_pb";
import { type Asked, useAsked } from "../../ui/use";

export function useDatasets(): Asked<Dataset[]> {
  return useAsked(async (signal) => (await workflows.listDatasets({}, call(signal))).datasets, []);
}

export function useArchitectures(): Asked<Architecture[]> {
  return useAsked(async (signal) => (await workflows.listArchitectures({}, call(signal))).architectures, []);
}

export interface KeptReport {
  readonly report: DatasetReport;
  readonly runnerName: string;
  readonly atMs: number;
}

/** The last report of each dataset that was checked from this tab: the platform keeps none. */
export const reports = signal<ReadonlyMap<string, KeptReport>>(new Map());

export function keepReport(datasetId: string, kept: KeptReport): void {
  reports.value = new Map(reports.value).set(datasetId, kept);
}

/** `11.7 M`; `–` where it is not known. */
export function millions(number: bigint): string {
  return number > 0n ? `${(Number(number) / 1e6).toFixed(1)} M` : "–";
}
