// Which runner can train an architecture, and why one cannot. The platform decides by the same rules; here they tell
// people before they press anything.
import { gpus, shortId, vramPerGpu } from "../../format";
import { RunnerStatus } from "../../gen/protos/events/v1/runner_pb";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import type { Architecture } from "../../gen/protos/training/v1/training_pb";
import { runnerState, suspender } from "../../states";

const GIB = 2 ** 30;

export interface Shortage {
  readonly what: string;
  readonly needs: number;
  readonly has: number;
}

/** Free: takes it at once. Queue: could take it once it is free. Never: has less than the minimum. */
export type Standing = "free" | "queue" | "never";

export interface Candidate {
  readonly runner: Runner;
  readonly standing: Standing;
  /** Why it cannot be chosen; empty for a free one. */
  readonly why: string;
  /** One sentence for each resource below the recommended. */
  readonly warnings: readonly string[];
}

/** What a runner has less of than the minimum, or the recommended; nothing where its box has never connected. */
export function shortages(runner: Runner, architecture: Architecture, level: "minimum" | "recommended"): Shortage[] {
  const { requirements: needs } = architecture;
  const { inventory: box } = runner;
  if (needs === undefined || box === undefined) return [];
  const least = level === "minimum";
  const vram = Number(least ? needs.minGpuVramBytes : needs.recommendedGpuVramBytes);
  const ram = Number(least ? needs.minCpuRamBytes : needs.recommendedCpuRamBytes);
  return [
    { what: "VRAM per GPU", needs: vram, has: vramPerGpu(box) },
    { what: "RAM", needs: ram, has: Number(box.cpuRamBytes) },
  ].filter((one) => one.has < one.needs);
}

/** How a runner stands to a training of the architecture; without one, to any training. */
export function candidate(runner: Runner, architecture: Architecture | undefined): Candidate {
  const [lacks] = architecture ? shortages(runner, architecture, "minimum") : [];
  if (architecture && lacks) {
    const { needs, has } = apart(lacks);
    const why = `${architecture.architectureId} needs at least ${needs} of ${lacks.what}; it has ${has}`;
    return { runner, standing: "never", why, warnings: [] };
  }
  const warnings = architecture ? shortages(runner, architecture, "recommended").map(scarce(architecture)) : [];
  if (runner.status === RunnerStatus.ONLINE) return { runner, standing: "free", why: "", warnings };
  return { runner, standing: "queue", why: whyBusy(runner), warnings };
}

// Made once: a comparison that makes its own takes tens of times as long.
const collator = new Intl.Collator(undefined, { numeric: true });

/** Those that can be chosen first; among equals by name. */
export function candidates(runners: readonly Runner[], architecture: Architecture | undefined): Candidate[] {
  const order = ({ standing, warnings }: Candidate) =>
    ({ free: 0, queue: 2, never: 4 })[standing] + (warnings.length > 0 ? 1 : 0);
  return runners
    .map((runner) => candidate(runner, architecture))
    .sort((a, b) => order(a) - order(b) || collator.compare(a.runner.name, b.runner.name));
}

/** The free one that costs least, without a warning if there is one: larger ones stay free for those who need them. */
export function cheapest(all: readonly Candidate[]): Runner | undefined {
  const free = all.filter((one) => one.standing === "free");
  const best = free.some((one) => one.warnings.length === 0) ? free.filter((one) => one.warnings.length === 0) : free;
  return best.toSorted((a, b) => Number(a.runner.rateMicros - b.runner.rateMicros))[0]?.runner;
}

export function hasLabels(runner: Runner, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(labels).every(([key, value]) => runner.labels[key] === value);
}

/** `room=2, gpu=a100` → labels; undefined where it is of another form. */
export function labelsOf(text: string): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  for (const part of text.split(",").map((one) => one.trim())) {
    if (part === "") continue;
    const at = part.indexOf("=");
    if (at < 1) return undefined;
    labels[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return labels;
}

/** What a runner is, for a list to choose from: `NVIDIA A10G ×2 · 24 GiB each`. */
export function hardware(runner: Runner): string {
  const vram = vramPerGpu(runner.inventory);
  return vram > 0 ? `${gpus(runner.inventory)} · ${gib(vram)} VRAM each` : "hardware known once it connects";
}

/** `2.5 GiB`. */
export function gib(bytes: number, digits = 1): string {
  const value = (bytes / GIB).toFixed(digits);
  return `${digits === 1 ? value.replace(/\.0$/, "") : value} GiB`;
}

function whyBusy(runner: Runner): string {
  switch (runner.status) {
    case RunnerStatus.OCCUPIED:
      return runner.jobId ? `runs the training ${shortId(runner.jobId)}` : "runs another training";
    case RunnerStatus.SUSPENDED: {
      const by = runner.suspensions.map((one) => suspender(one.owner)).join(" and ");
      const reasons = runner.suspensions.map((one) => one.reason).filter(Boolean);
      return `suspended${by && ` by ${by}`}${reasons.length > 0 ? `: ${reasons.join("; ")}` : ""}`;
    }
    case RunnerStatus.OFFLINE:
      return runner.lastContactAtMs > 0n ? "not connected" : "has never connected";
    default:
      return `is ${runnerState(runner).label}`;
  }
}

function scarce(architecture: Architecture): (one: Shortage) => string {
  return (one) => {
    const { needs, has } = apart(one);
    return `${architecture.architectureId} runs best with ${needs} of ${one.what}; this runner has ${has}.`;
  };
}

/** Two sizes with as many digits as it takes to see that one is smaller. */
function apart({ needs, has }: Shortage): { needs: string; has: string } {
  const digits = [1, 2, 3].find((n) => gib(needs, n) !== gib(has, n)) ?? 3;
  return { needs: gib(needs, digits), has: gib(has, digits) };
}
