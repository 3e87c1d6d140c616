import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { cutOff, runnerState } from "../../states";
import { now } from "../../time";
import { StateBadge } from "../../ui/note";

/** A runner's status; follows the clock only where there is a deadline to count down to. */
export function RunnerState({ runner }: { runner: Runner }) {
  const { deadlineAtMs } = runner;
  return <StateBadge state={runnerState(runner)} more={deadlineAtMs > 0n ? cutOff(deadlineAtMs, now.value) : ""} />;
}
