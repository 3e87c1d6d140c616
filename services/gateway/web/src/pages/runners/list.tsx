import { useState } from "preact/hooks";
import { mayAdmin } from "../../api/session";
import { gpus, size, vramPerGpu } from "../../format";
import { RunnerStatus } from "../../gen/protos/events/v1/runner_pb";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { liveJobs, runners, runnersByName } from "../../live/stores";
import { runnerState } from "../../states";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { TextField } from "../../ui/fields";
import { Card, Head } from "../../ui/layout";
import { Empty, Loading, Simulated } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { type Asking, RunnerDialog, RunnerMenu } from "./actions";
import { AddRunner } from "./add";
import css from "./runners.module.css";
import { RunnerState } from "./state";

const ORDER = [RunnerStatus.ONLINE, RunnerStatus.OCCUPIED, RunnerStatus.SUSPENDED, RunnerStatus.OFFLINE];

/** Every runner, a row each; changes appear by themselves. */
export default function Runners() {
  const [adding, setAdding] = useState(false);
  // Here and not in the row, which leaves when the runner stops matching: a dialog may hold the only copy of a key.
  const [asking, setAsking] = useState<Asking>();
  const [search, setSearch] = useState("");
  const all = runnersByName.value;
  const shown = all.filter((runner) => matches(runner, search));
  const counts = ORDER.map((status) => [status, all.filter((runner) => runner.status === status)] as const);
  return (
    <>
      <Head
        title="Runners"
        actions={
          mayAdmin.value && (
            <Button kind="primary" onClick={() => setAdding(true)}>
              Add a runner
            </Button>
          )
        }
      >
        {runners.value !== undefined && all.length > 0
          ? counts
              .filter(([, some]) => some.length > 0)
              .map(([, some]) => `${some.length} ${some[0] ? runnerState(some[0]).label.toLowerCase() : ""}`)
              .join(" · ")
          : "Your GPU boxes, connected by a small agent"}
      </Head>
      <Card flush>
        {runners.value === undefined ? (
          <Loading what="Loading the runners" />
        ) : all.length === 0 ? (
          <Empty
            title="No runner yet"
            action={
              mayAdmin.value && (
                <Button kind="primary" onClick={() => setAdding(true)}>
                  Add a runner
                </Button>
              )
            }
          >
            A runner is one of your GPU boxes.{" "}
            {mayAdmin.value ? "Give it a name, and run one command there." : "An admin can add one."}
          </Empty>
        ) : (
          <>
            {all.length > 8 && (
              <div style={{ padding: "12px 14px", maxWidth: "360px" }}>
                <TextField
                  label="Filter"
                  type="search"
                  value={search}
                  onInput={setSearch}
                  placeholder="Name, GPU, label or status"
                />
              </div>
            )}
            <div class={`${css.row} ${css.heads}`} aria-hidden="true">
              <span>Runner</span>
              <span>Status</span>
              <span>GPUs</span>
              <span>VRAM</span>
              <span>RAM</span>
              <span>Training</span>
              <span>Last contact</span>
              <span />
            </div>
            {shown.length === 0 ? (
              <Empty title="No runner matches">Nothing fits “{search}”.</Empty>
            ) : (
              <Rows
                label="Runners"
                items={shown}
                keyOf={(runner) => runner.runnerId}
                height={58}
                window="calc(100dvh - 250px)"
              >
                {(runner) => <Row runner={runner} onAsk={setAsking} />}
              </Rows>
            )}
          </>
        )}
      </Card>
      {adding && <AddRunner onClose={() => setAdding(false)} />}
      {asking && <RunnerDialog asking={asking} onClose={() => setAsking(undefined)} />}
    </>
  );
}

function Row({ runner, onAsk }: { runner: Runner; onAsk: (asking: Asking) => void }) {
  const { inventory } = runner;
  const job = runner.jobId ? liveJobs.value?.get(runner.jobId) : undefined;
  const vram = vramPerGpu(inventory);
  return (
    <div class={css.row}>
      <div>
        <a class={css.name} href={`/runners/${runner.runnerId}`}>
          {runner.name}
        </a>
        <div class={css.sub}>
          {runner.agentVersion ? `agent ${runner.agentVersion}` : "no agent yet"}
          {Object.entries(runner.labels).map(([key, value]) => ` · ${key}=${value}`)}
        </div>
      </div>
      <div>
        <RunnerState runner={runner} />
      </div>
      <div class="break">
        {gpus(inventory) || <span class="quiet">known once it connects</span>} {inventory?.simulated && <Simulated />}
      </div>
      <div class="number">{vram > 0 ? size(vram) : "–"}</div>
      <div class="number">{inventory ? size(inventory.cpuRamBytes) : "–"}</div>
      <div class="break">
        {runner.jobId ? (
          <a href={`/trainings/${runner.jobId}`}>{job?.name ?? "its training"}</a>
        ) : (
          <span class="quiet">no training</span>
        )}
      </div>
      <div class="quiet">{runner.connected ? "connected" : <Ago ms={Number(runner.lastContactAtMs)} />}</div>
      <div>{mayAdmin.value && <RunnerMenu runner={runner} onAsk={onAsk} />}</div>
    </div>
  );
}

function matches(runner: Runner, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const labels = Object.entries(runner.labels).map(([key, value]) => `${key}=${value}`);
  const text = [runner.name, gpus(runner.inventory), runnerState(runner).label, ...labels].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}
