import { Code, ConnectError } from "@connectrpc/connect";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { expect, test } from "vitest";
import { type Options, receive, type Sink } from "../src/pages/trainings/checkpoints-receive";

const file = Uint8Array.from({ length: 1000 }, (_, n) => n % 251);
const wanted = { artifactId: "af_1", name: "m.onnx", bytes: 1000n, sha256: bytesToHex(sha256(file)) };

function sink(): Sink & { got: number[]; end: string } {
  const made = {
    got: [] as number[],
    end: "",
    write: async (chunk: Uint8Array) => void made.got.push(...chunk),
    finish: async () => {
      made.end = "finished";
    },
    abort: async () => {
      made.end = "aborted";
    },
  };
  return made;
}

/** Serves pieces of 100 bytes; each answer breaks after so many of them. */
function server(breaks: number[], content = file) {
  const offsets: number[] = [];
  const open = async function* (offset: bigint, signal: AbortSignal) {
    offsets.push(Number(offset));
    let left = breaks.shift() ?? Number.POSITIVE_INFINITY;
    for (let at = Number(offset); at < content.length; at += 100) {
      if (left-- === 0) throw new ConnectError("gone", Code.Unavailable);
      signal.throwIfAborted();
      yield { chunk: content.subarray(at, at + 100) };
    }
  };
  return { open, offsets };
}

const options = (open: Options["open"], signal = new AbortController().signal) => ({
  open,
  signal,
  onProgress: () => undefined,
  pause: async () => undefined,
});

test("a download that breaks goes on where it ended, and each byte comes once", async () => {
  const [to, { open, offsets }] = [sink(), server([3, 2, 0])];
  await receive(wanted, to, options(open));
  expect(offsets).toEqual([0, 300, 500, 500]);
  expect(to.got).toEqual([...file]);
  expect(to.end).toBe("finished");
});

test("what came damaged is not kept", async () => {
  const to = sink();
  const damaged = file.with(500, 7);
  await expect(receive(wanted, to, options(server([], damaged).open))).rejects.toThrow(/m\.onnx came damaged/);
  expect(to.end).toBe("aborted");
});

test("a platform that has less than it says does not keep one waiting", async () => {
  const to = sink();
  await expect(receive(wanted, to, options(server([], file.subarray(0, 400)).open))).rejects.toThrow(/only 400 B/);
  expect(to.end).toBe("aborted");
});

test("it is given up after ten tries without a byte, and at once for what no try mends", async () => {
  const never = server(new Array(50).fill(0));
  await expect(receive(wanted, sink(), options(never.open))).rejects.toThrow(/gone/);
  expect(never.offsets.length).toBe(10);
  let asked = 0;
  // biome-ignore lint/correctness/useYield: it fails before the first byte
  const refused = async function* (): AsyncGenerator<{ chunk: Uint8Array }> {
    asked += 1;
    throw new ConnectError("no such file", Code.NotFound);
  };
  await expect(receive(wanted, sink(), options(refused))).rejects.toThrow(/no such file/);
  expect(asked).toBe(1);
});

test("one that is cancelled leaves nothing", async () => {
  const [to, abort] = [sink(), new AbortController()];
  const { open } = server([]);
  const cancelling = { ...options(open, abort.signal), onProgress: (bytes: number) => bytes >= 300 && abort.abort() };
  await expect(receive(wanted, to, cancelling)).rejects.toThrow();
  expect(to.end).toBe("aborted");
  expect(to.got.length).toBe(300);
});
