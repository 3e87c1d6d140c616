import { useRef, useState } from "preact/hooks";
import { runners as api, call } from "../../api/clients";
import { RunnerStatus, SuspensionOwner } from "../../gen/protos/events/v1/runner_pb";
import type { RegenerateSecretKeyResponse, Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { runners } from "../../live/stores";
import { platformNow } from "../../time";
import { Button } from "../../ui/button";
import { Copy } from "../../ui/copy";
import { Confirm, Dialog } from "../../ui/dialog";
import { SelectField, TextField } from "../../ui/fields";
import { MoreIcon } from "../../ui/icons";
import { Menu } from "../../ui/menu";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction, useRequestId } from "../../ui/use";
import { reauthCommand } from "./command";

export interface Asking {
  readonly what: "suspend" | "resume" | "key" | "uninstall";
  /** As it was when it was asked for. */
  readonly runner: Runner;
}

interface MenuProps {
  runner: Runner;
  onAsk: (asking: Asking) => void;
}

/** What an admin can do with a runner; each asks first (`RunnerDialog`) and says what will happen. */
export function RunnerMenu({ runner, onAsk }: MenuProps) {
  const byAdmin = runner.suspensions.some((one) => one.owner === SuspensionOwner.ADMIN);
  return (
    <Menu
      label={`Actions for ${runner.name}`}
      items={[
        byAdmin
          ? { label: "Resume…", onChoose: () => onAsk({ what: "resume", runner }) }
          : { label: "Suspend…", onChoose: () => onAsk({ what: "suspend", runner }) },
        { label: "Regenerate secret key…", onChoose: () => onAsk({ what: "key", runner }) },
        { label: "Uninstall…", onChoose: () => onAsk({ what: "uninstall", runner }) },
      ]}
    >
      <MoreIcon />
    </Menu>
  );
}

const DIALOGS = { suspend: Suspend, resume: Resume, key: RegenerateKey, uninstall: Uninstall };

interface DialogProps {
  runner: Runner;
  onClose: () => void;
}

/** What was chosen in the menu of a runner: the runner as it is now, or as it was last seen where it has left. */
export function RunnerDialog({ asking, onClose }: { asking: Asking; onClose: () => void }) {
  const seen = useRef(asking.runner);
  seen.current = runners.value?.get(asking.runner.runnerId) ?? seen.current;
  const Chosen = DIALOGS[asking.what];
  return <Chosen runner={seen.current} onClose={onClose} />;
}

function Resume({ runner, onClose }: DialogProps) {
  const requestId = useRequestId(runner.runnerId);
  const action = async () => {
    await api.resumeRunner({ requestId, runnerId: runner.runnerId }, call());
    say(`${runner.name} may take trainings again.`);
  };
  return (
    <Confirm title={`Resume ${runner.name}?`} verb="Resume" action={action} onClose={onClose}>
      It may take new trainings again, unless its owner or a health check keeps it suspended too.
    </Confirm>
  );
}

const HOUR_MS = 3_600_000;
const SPANS = [
  { value: "0", label: "Until it is resumed" },
  { value: String(HOUR_MS), label: "For an hour" },
  { value: String(4 * HOUR_MS), label: "For 4 hours" },
  { value: String(24 * HOUR_MS), label: "For a day" },
  { value: String(7 * 24 * HOUR_MS), label: "For a week" },
];

function Suspend({ runner, onClose }: DialogProps) {
  const [reason, setReason] = useState("");
  const [span, setSpan] = useState("0");
  const requestId = useRequestId(JSON.stringify([reason, span]));
  const begun = useRef({ requestId: "", atMs: 0 });
  const { busy, problem, run } = useAction();
  const submit = async () => {
    // From the first press on: the same request again is the same to the millisecond.
    if (begun.current.requestId !== requestId) begun.current = { requestId, atMs: Math.round(platformNow()) };
    const untilMs = Number(span) > 0 ? BigInt(begun.current.atMs + Number(span)) : 0n;
    const done = await run(() => api.suspendRunner({ requestId, runnerId: runner.runnerId, reason, untilMs }, call()));
    if (done) {
      say(`${runner.name} takes no new training.`);
      onClose();
    }
  };
  return (
    <Dialog
      title={`Suspend ${runner.name}`}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Suspend
          </Button>
        </>
      }
    >
      <p>
        It takes no new training.{" "}
        {runner.status === RunnerStatus.OCCUPIED && <strong>The one that runs goes on to its end.</strong>}
      </p>
      <SelectField label="How long" value={span} options={SPANS} onChange={setSpan} />
      <TextField label="Reason" hint="For the people who see it suspended." value={reason} onInput={setReason} />
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}

const OVERLAPS = [
  { value: "0", label: "At once" },
  { value: String(10 * 60_000), label: "After 10 minutes" },
  { value: String(HOUR_MS), label: "After an hour" },
  { value: String(24 * HOUR_MS), label: "After a day" },
];

function RegenerateKey({ runner, onClose }: DialogProps) {
  const [overlap, setOverlap] = useState("0");
  const [made, setMade] = useState<RegenerateSecretKeyResponse>();
  const requestId = useRequestId(overlap);
  const { busy, problem, run } = useAction();
  const submit = () =>
    run(async () =>
      setMade(
        await api.regenerateSecretKey({ requestId, runnerId: runner.runnerId, overlapMs: BigInt(overlap) }, call()),
      ),
    );
  if (made !== undefined)
    return (
      <Dialog
        title={`New secret key of ${runner.name}`}
        width={680}
        onClose={onClose}
        actions={
          <Button kind="primary" onClick={onClose}>
            Done
          </Button>
        }
      >
        {made.secretWithheld ? (
          <Note tone="warn">
            The answer with the key got lost, and a key is never shown twice: regenerate it once more.
          </Note>
        ) : (
          <>
            <p>
              Run this on the box. It holds the new key, <strong>which is shown only now</strong>.
            </p>
            <Copy label="the command" text={reauthCommand(runner.name, made.secretKey)} />
          </>
        )}
      </Dialog>
    );
  return (
    <Dialog
      title={`Regenerate the secret key of ${runner.name}`}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="danger" submit busy={busy}>
            Regenerate
          </Button>
        </>
      }
    >
      <SelectField label="The old key is refused" value={overlap} options={OVERLAPS} onChange={setOverlap} />
      {runner.attemptId !== "" && overlap === "0" ? (
        <Note tone="warn">
          Its training is cut off at once. It goes on if the box gets the new key within the window of 15 minutes, and
          ends itself otherwise.
        </Note>
      ) : (
        <p>
          {overlap === "0"
            ? "The box is disconnected at once and comes back when it has the new key."
            : "Until then both keys work: nothing is interrupted if the box gets the new one in time."}
        </p>
      )}
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}

function Uninstall({ runner, onClose }: DialogProps) {
  const requestId = useRequestId(runner.runnerId);
  const action = async () => {
    await api.uninstallRunner({ requestId, runnerId: runner.runnerId }, call());
    say(`${runner.name} is uninstalled.`);
  };
  return (
    <Confirm title={`Uninstall ${runner.name}?`} verb="Uninstall" danger action={action} onClose={onClose}>
      {runner.attemptId !== ""
        ? "It holds a training: stop that first. "
        : "It is taken out of the platform for good: its key is refused, and its name is free again. "}
      What its trainings left stays. To remove the agent from the box as well, run <code>tether-runner uninstall</code>{" "}
      there.
    </Confirm>
  );
}
