import { useState } from "preact/hooks";
import { runners as api, call, newRequestId } from "../../api/clients";
import { RunnerStatus, SuspensionOwner } from "../../gen/protos/events/v1/runner_pb";
import type { RegenerateSecretKeyResponse, Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { platformNow } from "../../time";
import { Button } from "../../ui/button";
import { Copy } from "../../ui/copy";
import { Confirm, Dialog } from "../../ui/dialog";
import { SelectField, TextField } from "../../ui/fields";
import { MoreIcon } from "../../ui/icons";
import { Menu } from "../../ui/menu";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction } from "../../ui/use";
import { reauthCommand } from "./command";

type Asking = "suspend" | "key" | "uninstall" | undefined;

/** What an admin can do with a runner; each asks first and says what will happen. */
export function RunnerActions({ runner }: { runner: Runner }) {
  const [asking, setAsking] = useState<Asking>();
  const close = () => setAsking(undefined);
  const byAdmin = runner.suspensions.some((one) => one.owner === SuspensionOwner.ADMIN);
  const resume = async () => {
    await api.resumeRunner({ requestId: newRequestId(), runnerId: runner.runnerId }, call());
    say(`${runner.name} may take trainings again.`);
  };
  const [resuming, setResuming] = useState(false);
  return (
    <>
      <Menu
        label={`Actions for ${runner.name}`}
        items={[
          byAdmin
            ? { label: "Resume…", onChoose: () => setResuming(true) }
            : { label: "Suspend…", onChoose: () => setAsking("suspend") },
          { label: "Regenerate secret key…", onChoose: () => setAsking("key") },
          { label: "Uninstall…", onChoose: () => setAsking("uninstall") },
        ]}
      >
        <MoreIcon />
      </Menu>
      {resuming && (
        <Confirm title={`Resume ${runner.name}?`} verb="Resume" action={resume} onClose={() => setResuming(false)}>
          It may take new trainings again, unless its owner or a health check keeps it suspended too.
        </Confirm>
      )}
      {asking === "suspend" && <Suspend runner={runner} onClose={close} />}
      {asking === "key" && <RegenerateKey runner={runner} onClose={close} />}
      {asking === "uninstall" && <Uninstall runner={runner} onClose={close} />}
    </>
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

function Suspend({ runner, onClose }: { runner: Runner; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [span, setSpan] = useState("0");
  const [requestId] = useState(newRequestId);
  const { busy, problem, run } = useAction();
  const submit = async () => {
    const untilMs = Number(span) > 0 ? BigInt(Math.round(platformNow() + Number(span))) : 0n;
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

function RegenerateKey({ runner, onClose }: { runner: Runner; onClose: () => void }) {
  const [overlap, setOverlap] = useState("0");
  const [made, setMade] = useState<RegenerateSecretKeyResponse>();
  const [requestId] = useState(newRequestId);
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

function Uninstall({ runner, onClose }: { runner: Runner; onClose: () => void }) {
  const [requestId] = useState(newRequestId);
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
