// What a training costs before it runs. Money stays whole: millionths and thousandths.
const MICROS = 1_000_000n;

/** Compute minutes for each minute of the clock, millionths, cut off as the platform does when it assigns a training. */
export function minuteMicros(runnerMicros: bigint, advanced: boolean, advancedMicros: bigint): bigint {
  return advanced ? (runnerMicros * advancedMicros) / MICROS : runnerMicros;
}

/** What so many real minutes cost, minutes × 1000. */
export function costMilliminutes(realMinutes: number, micros: bigint): bigint {
  return (BigInt(Math.round(realMinutes)) * micros) / 1000n;
}

/** How long what is left lasts at a rate, milliseconds; undefined at no rate. */
export function lastsMs(leftMilliminutes: bigint, micros: bigint): number | undefined {
  if (micros <= 0n) return undefined;
  const left = leftMilliminutes > 0n ? leftMilliminutes : 0n;
  return Number((left * 60n * MICROS) / micros);
}

/** The lowest and the highest of some rates; undefined where there is none. */
export function rateRange(micros: readonly bigint[]): { low: bigint; high: bigint } | undefined {
  const [first, ...others] = micros;
  if (first === undefined) return undefined;
  let [low, high] = [first, first];
  for (const one of others) {
    if (one < low) low = one;
    if (one > high) high = one;
  }
  return { low, high };
}
