import { Code } from "@connectrpc/connect";
import { call, metrics } from "../../api/clients";
import { hasCode } from "../../api/errors";
import type { ListSeriesResponse } from "../../gen/protos/metrics/v1/metrics_pb";
import type { Job } from "../../gen/protos/scheduler/v1/job_pb";
import { isOver } from "../../states";
import { useAsked, useEvery } from "../../ui/use";

const ASK_AGAIN_MS = 2000;

interface Listed {
  /** Undefined while the metrics service has never heard of the training: it does once that reports. */
  readonly listed: ListSeriesResponse | undefined;
  /** Whether it has answered. */
  readonly asked: boolean;
  readonly problem: string;
}

/** What the metrics service has of a training; asked again until it has anything. */
export function useListed(job: Job): Listed {
  const { jobId } = job;
  const answer = useAsked(
    async (signal) => {
      try {
        return { listed: await metrics.listSeries({ jobId }, call(signal)) };
      } catch (error) {
        if (hasCode(error, Code.NotFound)) return { listed: undefined };
        throw error;
      }
    },
    [jobId],
  );
  const { value } = answer;
  const waits = value !== undefined && value.listed === undefined && !isOver(job);
  useEvery(waits ? ASK_AGAIN_MS : 0, answer.reload, answer.loading);
  return {
    listed: value?.listed,
    asked: value !== undefined,
    problem: value === undefined ? answer.problem : "",
  };
}
