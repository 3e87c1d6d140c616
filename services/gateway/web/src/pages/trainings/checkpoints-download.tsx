import { signal } from "@preact/signals";
import { artifacts } from "../../api/clients";
import { sentence } from "../../api/errors";
import { shortId, size } from "../../format";
import type { Artifact } from "../../gen/protos/metrics/v1/artifact_pb";
import { Button } from "../../ui/button";
import { Bar, Note } from "../../ui/note";
import { saveAs } from "../../ui/save";
import { say } from "../../ui/toasts";
import css from "./checkpoints.module.css";
import { receive, type Sink } from "./checkpoints-receive";

// Up to here a file is put together in memory and saved as browsers save downloads; a larger one is written to a place
// that the person chooses, where the browser can.
const IN_MEMORY = 256 * 2 ** 20;
const MOST_IN_MEMORY = 2 ** 30;
const PROGRESS_MS = 150;

/** A part of the File System Access API that TypeScript does not know yet. */
type Picker = (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "running"; readonly bytes: number }
  | { readonly kind: "failed"; readonly problem: string };

// By artifact, outside of the components: a download goes on while people look at other tabs and pages.
const states = signal<ReadonlyMap<string, State>>(new Map());
const running = new Map<string, AbortController>();
const IDLE: State = { kind: "idle" };

function set(id: string, state: State): void {
  states.value = new Map(states.value).set(id, state);
}

const guard = (event: BeforeUnloadEvent) => event.preventDefault();

async function start(artifact: Artifact): Promise<void> {
  const id = artifact.artifactId;
  if (running.has(id)) return;
  const abort = new AbortController();
  running.set(id, abort);
  // Leaving the platform's page altogether would end it: the browser asks first.
  window.addEventListener("beforeunload", guard);
  let shownAt = 0;
  try {
    const sink = await sinkFor(artifact);
    if (sink === undefined) return;
    set(id, { kind: "running", bytes: 0 });
    await receive(artifact, sink, {
      open: (offset, signal) => artifacts.downloadArtifact({ artifactId: id, offset }, { signal }),
      signal: abort.signal,
      onProgress: (bytes) => {
        if (performance.now() - shownAt < PROGRESS_MS) return;
        shownAt = performance.now();
        set(id, { kind: "running", bytes });
      },
      pause: (ms) => new Promise((done) => setTimeout(done, ms)),
    });
    say(`${artifact.name}: ${size(artifact.bytes)}, checked.`);
    set(id, IDLE);
  } catch (error) {
    set(id, abort.signal.aborted ? IDLE : { kind: "failed", problem: sentence(error) });
  } finally {
    running.delete(id);
    if (running.size === 0) window.removeEventListener("beforeunload", guard);
  }
}

/** Downloads a file of the platform: how far it is, a way to stop it, and why it failed. */
export function Download({ artifact }: { artifact: Artifact }) {
  const state = states.value.get(artifact.artifactId) ?? IDLE;
  if (state.kind === "running")
    return (
      <div class={css.progress}>
        <Bar share={state.bytes / Math.max(Number(artifact.bytes), 1)} welcome label={`Downloading ${artifact.name}`} />
        <span class="number">
          {size(state.bytes)} of {size(artifact.bytes)}
        </span>
        <Button small onClick={() => running.get(artifact.artifactId)?.abort()}>
          Cancel
        </Button>
      </div>
    );
  return (
    <div class={css.download}>
      <Button small onClick={() => void start(artifact)}>
        {state.kind === "failed" ? "Try again" : "Download"}
        <span class="visually-hidden"> {artifact.name}</span>
      </Button>
      {state.kind === "failed" && <Note tone="bad">{state.problem}</Note>}
    </div>
  );
}

/** Where a file goes; undefined: the person chose no place. Throws where it is too large for this browser. */
async function sinkFor(artifact: Artifact): Promise<Sink | undefined> {
  const bytes = Number(artifact.bytes);
  const picker = (window as { showSaveFilePicker?: Picker }).showSaveFilePicker;
  if (bytes > IN_MEMORY && picker !== undefined) return inFile(picker, artifact.name);
  if (bytes > MOST_IN_MEMORY)
    throw new Error(
      `${artifact.name} has ${size(bytes)}, too much for this browser; use Chrome or Edge, or the command ` +
        `tether jobs download ${shortId(artifact.jobId)} ${artifact.name}`,
    );
  return inMemory(artifact.name);
}

async function inFile(picker: Picker, name: string): Promise<Sink | undefined> {
  try {
    const handle = await picker.call(window, { suggestedName: name });
    const file = await handle.createWritable();
    return {
      write: (chunk) => file.write(new Uint8Array(chunk)),
      finish: () => file.close(),
      abort: () => file.abort(),
    };
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return undefined;
    throw error;
  }
}

function inMemory(name: string): Sink {
  let chunks: Uint8Array<ArrayBuffer>[] = [];
  const forget = async () => {
    chunks = [];
  };
  return {
    write: async (chunk) => {
      chunks.push(new Uint8Array(chunk));
    },
    finish: async () => {
      saveAs(name, chunks, "application/octet-stream");
      await forget();
    },
    abort: forget,
  };
}
