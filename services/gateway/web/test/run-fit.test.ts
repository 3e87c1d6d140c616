import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { RunnerStatus, SuspensionOwner } from "../src/gen/protos/events/v1/runner_pb";
import { type Runner, RunnerSchema } from "../src/gen/protos/scheduler/v1/runner_pb";
import { type Architecture, ArchitectureSchema } from "../src/gen/protos/training/v1/training_pb";
import { chosenOf, filtered, nextEnabled, optionsOf, whereProblem } from "../src/pages/run/choice";
import { costMilliminutes, lastsMs, minuteMicros, rateRange } from "../src/pages/run/cost";
import { candidate, candidates, cheapest, hasLabels, labelsOf, shortages } from "../src/pages/run/fit";

const GIB = 2n ** 30n;

function runner(name: string, status: RunnerStatus, vramGib: number[], more: Partial<Runner> = {}): Runner {
  return create(RunnerSchema, {
    runnerId: `rn_${name}`,
    name,
    status,
    connected: status !== RunnerStatus.OFFLINE,
    rateMicros: BigInt(vramGib.length) * 1_000_000n,
    inventory:
      vramGib.length > 0
        ? { gpus: vramGib.map((gib) => ({ type: "NVIDIA T4", vramBytes: BigInt(gib) * GIB })), cpuRamBytes: 32n * GIB }
        : undefined,
    ...more,
  } as Parameters<typeof create<typeof RunnerSchema>>[1]);
}

const net: Architecture = create(ArchitectureSchema, {
  architectureId: "net",
  requirements: {
    minGpuVramBytes: 8n * GIB,
    recommendedGpuVramBytes: 16n * GIB,
    minCpuRamBytes: 2n * GIB,
    recommendedCpuRamBytes: 4n * GIB,
  },
});

describe("what fits where", () => {
  it("counts VRAM per GPU, the smallest of a mixed box, never their sum", () => {
    const box = runner("mixed", RunnerStatus.ONLINE, [24, 4]);
    expect(shortages(box, net, "minimum")).toEqual([{ what: "VRAM per GPU", needs: 8 * 2 ** 30, has: 4 * 2 ** 30 }]);
    expect(candidate(box, net)).toMatchObject({
      standing: "never",
      why: "net needs at least 8 GiB of VRAM per GPU; it has 4 GiB",
    });
  });

  it("takes exactly the minimum with a warning, and exactly the recommended without one", () => {
    const least = candidate(runner("least", RunnerStatus.ONLINE, [8]), net);
    expect([least.standing, least.warnings]).toEqual([
      "free",
      ["net runs best with 16 GiB of VRAM per GPU; this runner has 8 GiB."],
    ]);
    expect(candidate(runner("best", RunnerStatus.ONLINE, [16]), net).warnings).toEqual([]);
  });

  it("shows two sizes that differ with as many digits as it takes", () => {
    const box = runner("almost", RunnerStatus.ONLINE, [8]);
    if (box.inventory?.gpus[0]) box.inventory.gpus[0].vramBytes = 8n * GIB - 20_000_000n;
    expect(candidate(box, net).why).toBe("net needs at least 8.00 GiB of VRAM per GPU; it has 7.98 GiB");
  });

  it("calls only an ONLINE runner free, and says of each other one why it is not", () => {
    const suspended = runner("s", RunnerStatus.SUSPENDED, [16], {
      suspensions: [{ owner: SuspensionOwner.ADMIN, reason: "maintenance", untilMs: 0n }] as Runner["suspensions"],
    });
    const found = [
      runner("o", RunnerStatus.OCCUPIED, [16], { jobId: "jb_abcdefghijklmnop" }),
      suspended,
      runner("off", RunnerStatus.OFFLINE, [16], { lastContactAtMs: 5n }),
      runner("new", RunnerStatus.OFFLINE, []),
    ].map((one) => candidate(one, net));
    expect(found.map((one) => one.standing)).toEqual(["queue", "queue", "queue", "queue"]);
    expect(found.map((one) => one.why)).toEqual([
      "runs the training jb_abcdefgh",
      "suspended by an admin: maintenance",
      "not connected",
      "has never connected",
    ]);
  });

  it("puts those that can be chosen first, and chooses the cheapest without a warning", () => {
    const all = candidates(
      [
        runner("tiny", RunnerStatus.ONLINE, [4]),
        runner("busy", RunnerStatus.OCCUPIED, [16]),
        runner("tight", RunnerStatus.ONLINE, [8]),
        runner("large-10", RunnerStatus.ONLINE, [24, 24, 24]),
        runner("large-9", RunnerStatus.ONLINE, [24, 24]),
      ],
      net,
    );
    expect(all.map((one) => one.runner.name)).toEqual(["large-9", "large-10", "tight", "busy", "tiny"]);
    expect(cheapest(all)?.name).toBe("large-9");
    expect(cheapest(candidates([runner("tight", RunnerStatus.ONLINE, [8])], net))?.name).toBe("tight");
    expect(cheapest(candidates([runner("busy", RunnerStatus.OCCUPIED, [16])], net))).toBeUndefined();
  });

  it("reads labels, and matches a runner only by all of them", () => {
    expect(labelsOf(" room=2 , gpu = a100,")).toEqual({ room: "2", gpu: "a100" });
    expect([labelsOf("room"), labelsOf("=2"), labelsOf("")]).toEqual([undefined, undefined, {}]);
    const box = runner("b", RunnerStatus.ONLINE, [16], { labels: { room: "2" } });
    expect([hasLabels(box, { room: "2" }), hasLabels(box, { room: "2", a: "b" }), hasLabels(box, {})]).toEqual([
      true,
      false,
      true,
    ]);
  });
});

describe("the drop-down", () => {
  const all = candidates(
    [
      runner("free", RunnerStatus.ONLINE, [16]),
      runner("busy", RunnerStatus.OCCUPIED, [16]),
      runner("tiny", RunnerStatus.ONLINE, [4]),
    ],
    net,
  );
  const options = optionsOf(all);

  it("offers the free ones, a queue for the busy ones, nothing for the small ones, and any", () => {
    expect(options.map((one) => [one.value, one.disabled])).toEqual([
      ["runner:rn_free", false],
      ["runner:rn_busy", true],
      ["queue:rn_busy", false],
      ["runner:rn_tiny", true],
      ["any", false],
    ]);
  });

  it("goes by keyboard over what is disabled, and stays at the ends", () => {
    expect([nextEnabled(options, 0, 1), nextEnabled(options, 2, 1), nextEnabled(options, 4, 1)]).toEqual([2, 4, 4]);
    expect([nextEnabled(options, 2, -1), nextEnabled(options, 0, -1), nextEnabled(options, 5, -1)]).toEqual([0, 0, 4]);
  });

  it("is narrowed down by every word that is typed, but for any", () => {
    expect(filtered(options, "t4 occ").map((one) => one.value)).toEqual(["runner:rn_busy", "queue:rn_busy", "any"]);
    expect(filtered(options, "zebra").map((one) => one.value)).toEqual(["any"]);
  });

  it("refuses a choice that was good when it was made and is not any more", () => {
    expect(whereProblem("runner:rn_free", all)).toBe("");
    const later = candidates([runner("free", RunnerStatus.SUSPENDED, [16])], net);
    expect(whereProblem("runner:rn_free", later)).toBe(
      "free is SUSPENDED now (suspended); choose another runner, or queue for it.",
    );
    expect(whereProblem("queue:rn_free", later)).toBe("");
    expect(whereProblem("runner:rn_free", [])).toContain("not part of the platform any more");
    expect(whereProblem("queue:rn_tiny", all)).toContain("too small");
    expect([whereProblem("", all), whereProblem("any", [])]).toEqual(["Choose a runner, or any that matches.", ""]);
    expect(chosenOf("queue:rn_busy", all)?.runner.name).toBe("busy");
  });
});

describe("what a minute costs", () => {
  it("is the runner's rate, times the factor of advanced evaluation only with it, and cut off at a millionth", () => {
    expect(minuteMicros(2_500_000n, false, 1_500_000n)).toBe(2_500_000n);
    expect(minuteMicros(2_500_000n, true, 1_500_000n)).toBe(3_750_000n);
    expect(minuteMicros(333_333n, true, 1_500_000n)).toBe(499_999n);
  });

  it("multiplies exactly, however large", () => {
    expect(costMilliminutes(90, 7_500_000n)).toBe(675_000n);
    expect(costMilliminutes(100_000, 20_000_000_000n)).toBe(2_000_000_000_000n);
  });

  it("says how long what is left lasts; never where it costs nothing, no time where nothing is left", () => {
    expect(lastsMs(600_000n, 5_000_000n)).toBe(120 * 60_000);
    expect([lastsMs(5n, 0n), lastsMs(-5n, 1_000_000n)]).toEqual([undefined, 0]);
    expect(rateRange([3n, 1n, 2n])).toEqual({ low: 1n, high: 3n });
    expect(rateRange([])).toBeUndefined();
  });
});
