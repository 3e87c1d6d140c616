// What a training cost, as words that can be checked by hand. Pure.
import { type ExplainedAttempt, ExplainedInterval_Kind as Kind } from "../../gen/protos/quota/v1/quota_pb";
import type { State } from "../../states";

const MICROS = 1_000_000;

export const KINDS: Record<number, State> = {
  [Kind.CONNECTED]: { symbol: "●", label: "connected", tone: "good" },
  [Kind.CUT_OFF]: { symbol: "◌", label: "cut off", tone: "warn" },
  [Kind.PRESUMED]: { symbol: "?", label: "presumed", tone: "bad" },
  [Kind.GRACE]: { symbol: "○", label: "grace, free", tone: "quiet" },
};
export const UNKNOWN_KIND: State = { symbol: "?", label: "unknown", tone: "quiet" };

/** `2.5`, `0.333333`: a factor of millionths with no digit too many. */
export function factorOf(micros: number | bigint): string {
  return (Number(micros) / MICROS).toFixed(6).replace(/\.?0+$/, "");
}

/** How the rate came about: `2.5 × 2 (NVIDIA A10G) + 1 (Tesla T4), × 1.5 for advanced evaluation`. */
export function rateWords(attempt: ExplainedAttempt): string {
  const kinds = new Map<string, { type: string; micros: bigint; number: number }>();
  for (const gpu of attempt.gpus) {
    const key = `${gpu.multiplierMicros} ${gpu.type}`;
    const known = kinds.get(key) ?? { type: gpu.type, micros: gpu.multiplierMicros, number: 0 };
    kinds.set(key, { ...known, number: known.number + 1 });
  }
  const parts = [...kinds.values()].map(
    ({ type, micros, number }) => `${factorOf(micros)}${number > 1 ? ` × ${number}` : ""} (${type})`,
  );
  const words = parts.join(" + ") || "the event lists no GPUs";
  const factor = Number(attempt.evaluationFactorMicros);
  return factor === 0 || factor === MICROS ? words : `${words}, × ${factorOf(factor)} for advanced evaluation`;
}

/** How long the training was in each kind of interval, all attempts together, in the order of the kinds. */
export function timesByKind(attempts: readonly ExplainedAttempt[]): readonly { kind: Kind; ms: bigint }[] {
  const sums = new Map<Kind, bigint>();
  for (const { intervals } of attempts)
    for (const one of intervals) sums.set(one.kind, (sums.get(one.kind) ?? 0n) + (one.toMs - one.fromMs));
  return [...sums].map(([kind, ms]) => ({ kind, ms })).sort((a, b) => a.kind - b.kind);
}
