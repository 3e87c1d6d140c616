import { useState } from "preact/hooks";
import { jobs as api, call } from "../../api/clients";
import { type Job, JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { isCutOff } from "../../states";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { TextField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { useAction, useRequestId } from "../../ui/use";

/** Asks before a training is stopped, and says what will happen. */
export function StopTraining({ job, onClose }: { job: Job; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const requestId = useRequestId(reason.trim());
  const { busy, problem, run } = useAction();
  const waits = job.state === JobState.QUEUED;
  const submit = async () => {
    const done = await run(() => api.stopJob({ requestId, jobId: job.jobId, reason: reason.trim() }, call()));
    if (!done) return;
    say(waits ? `${job.name} does not wait any more.` : `${job.name} is being stopped.`);
    onClose();
  };
  return (
    <Dialog
      title={waits ? `Take ${job.name} out of the queue?` : `Stop ${job.name}?`}
      width={480}
      onClose={onClose}
      onSubmit={() => void submit()}
      actions={
        <>
          <Button onClick={onClose}>Keep training</Button>
          <Button kind="danger" submit busy={busy}>
            {waits ? "Take it out" : "Stop training"}
          </Button>
        </>
      }
    >
      <p>
        {waits
          ? "It has not started, and costs nothing."
          : job.state === JobState.ASSIGNED
            ? "Its training has not started yet, and costs nothing."
            : "It saves a checkpoint first, which takes up to 30 seconds and is free; its minutes end now. You can resume it from there later."}
      </p>
      {isCutOff(job) && (
        <Note tone="warn">
          It is cut off now: it is stopped once its box is heard again, or ends itself when its time is over.
        </Note>
      )}
      <TextField
        label="Reason"
        hint="For the people who read it later; may be empty."
        value={reason}
        onInput={setReason}
      />
      {problem && <Note tone="bad">{problem}</Note>}
    </Dialog>
  );
}
