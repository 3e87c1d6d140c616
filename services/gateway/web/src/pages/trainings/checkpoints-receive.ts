// Takes a file from the platform: goes on where a broken download ended, and checks the whole.
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { isUnreachable } from "../../api/errors";
import { size } from "../../format";

/** What is received; a piece of the platform's artifact. */
export interface Wanted {
  readonly artifactId: string;
  readonly name: string;
  readonly bytes: bigint;
  /** Hexadecimal. */
  readonly sha256: string;
}

/** Where the bytes go, in order. */
export interface Sink {
  write(chunk: Uint8Array): Promise<void>;
  /** All is there, and checked. */
  finish(): Promise<void>;
  /** What was written is of no use. */
  abort(): Promise<void>;
}

export interface Options {
  /** The bytes from an offset on. */
  readonly open: (offset: bigint, signal: AbortSignal) => AsyncIterable<{ readonly chunk: Uint8Array }>;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  readonly pause: (ms: number) => Promise<void>;
}

// Without one more byte from the platform; then it is given up.
const TRIES = 10;
const PAUSE_MS = 1000;

/** Throws the platform's error, or one with a sentence; the sink is finished or aborted in any case. */
export async function receive(wanted: Wanted, sink: Sink, options: Options): Promise<void> {
  const { open, signal, onProgress, pause } = options;
  const digest = sha256.create();
  const whole = Number(wanted.bytes);
  let [offset, failures] = [0, 0];
  try {
    while (offset < whole) {
      const before = offset;
      try {
        for await (const { chunk } of open(BigInt(offset), signal)) {
          if (chunk.length === 0) continue;
          await sink.write(chunk);
          digest.update(chunk);
          offset += chunk.length;
          failures = 0;
          onProgress(offset);
        }
      } catch (error) {
        failures += 1;
        if (signal.aborted || !isUnreachable(error) || failures === TRIES) throw error;
        await pause(PAUSE_MS);
        continue;
      }
      signal.throwIfAborted();
      if (offset === before)
        throw new Error(
          `the platform has only ${size(offset)} of the ${size(whole)} of ${wanted.name}; try again later`,
        );
    }
    if (bytesToHex(digest.digest()) !== wanted.sha256)
      throw new Error(`${wanted.name} came damaged (its SHA-256 is another one) and was not kept; download it again`);
    await sink.finish();
  } catch (error) {
    // What went wrong first is what people are told.
    await sink.abort().catch(() => undefined);
    throw error;
  }
}
