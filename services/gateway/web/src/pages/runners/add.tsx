import { useState } from "preact/hooks";
import { runners as api, call } from "../../api/clients";
import { gpus } from "../../format";
import type { CreateRunnerResponse } from "../../gen/protos/scheduler/v1/runner_pb";
import { runners } from "../../live/stores";
import { runnerState } from "../../states";
import { Button, ButtonLink } from "../../ui/button";
import { Copy } from "../../ui/copy";
import { Dialog } from "../../ui/dialog";
import { CheckField, TextField } from "../../ui/fields";
import { Note, StateBadge } from "../../ui/note";
import { useAction, useRequestId } from "../../ui/use";
import { installCommand, serverAddress } from "./command";
import css from "./runners.module.css";

/** Name → one command with the key, shown once → the runner turns green when its box connects. */
export function AddRunner({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [made, setMade] = useState<CreateRunnerResponse>();
  const requestId = useRequestId(name.trim());
  const { busy, problem, run } = useAction();
  if (made !== undefined) return <Install made={made} onClose={onClose} />;
  const submit = () => run(async () => setMade(await api.createRunner({ requestId, name: name.trim() }, call())));
  return (
    <Dialog
      title="Add a runner"
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Make the runner
          </Button>
        </>
      }
    >
      <p>
        A runner is one GPU box. Its GPUs, memory and driver are found out on the box; only the name is yours to choose.
      </p>
      <TextField
        label="Name"
        value={name}
        onInput={setName}
        problem={problem}
        autoFocus
        placeholder="for example box-1"
      />
    </Dialog>
  );
}

function Install({ made, onClose }: { made: CreateRunnerResponse; onClose: () => void }) {
  const [simulated, setSimulated] = useState(false);
  const runner = runners.value?.get(made.runner?.runnerId ?? "") ?? made.runner;
  const name = runner?.name ?? "";
  const connected = runner?.connected === true;
  if (made.secretWithheld)
    return (
      <Dialog title={`Runner ${name}`} onClose={onClose} actions={<Button onClick={onClose}>Close</Button>}>
        <Note tone="warn">
          The runner exists, but the answer with its secret key got lost, and a key is never shown twice. Regenerate its
          key in the list of runners.
        </Note>
      </Dialog>
    );
  return (
    <Dialog
      title={`Connect ${name}`}
      onClose={onClose}
      width={680}
      actions={
        <>
          {connected && <ButtonLink href={`/runners/${runner.runnerId}`}>Look at it</ButtonLink>}
          <Button kind={connected ? "primary" : "plain"} onClick={onClose}>
            Done
          </Button>
        </>
      }
    >
      <ol class={css.steps}>
        <li>
          Install the agent on the box, from Tether's own sources: <code>pip install ".[agent]"</code>
        </li>
        <li>
          Run this there. It holds the runner's secret key, <strong>which is shown only now</strong>.
          <div style={{ marginTop: "8px" }}>
            <Copy label="the command" text={installCommand(name, made.secretKey, serverAddress(), simulated)} />
          </div>
        </li>
      </ol>
      <CheckField
        checked={simulated}
        onChange={setSimulated}
        hint="For trying things out: it trains on the CPU, and is marked everywhere."
      >
        The box has no NVIDIA GPU: simulate one
      </CheckField>
      <div role="status">
        {runner && <StateBadge state={runnerState(runner)} />}{" "}
        {connected ? `Connected: ${gpus(runner.inventory)}` : "Waiting for the box to connect…"}
      </div>
    </Dialog>
  );
}
