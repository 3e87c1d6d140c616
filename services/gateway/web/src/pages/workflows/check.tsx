import { useEffect, useRef, useState } from "preact/hooks";
import { call, workflows } from "../../api/clients";
import { sentence } from "../../api/errors";
import { duration } from "../../format";
import type { Dataset } from "../../gen/protos/training/v1/training_pb";
import { runners, runnersByName } from "../../live/stores";
import { runnerState } from "../../states";
import { now, platformNow } from "../../time";
import { Button, ButtonLink } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { SelectField } from "../../ui/fields";
import { Note } from "../../ui/note";
import { keepReport, reports } from "./catalogue";
import { Report } from "./report";
import css from "./workflows.module.css";

/** As long as a box may take, and a little: it reads every image once. */
const CHECK_TIMEOUT_MS = 610_000;

interface Props {
  dataset: Dataset;
  /** It has just been registered. */
  fresh?: boolean;
  onClose: () => void;
}

/** Looks at a dataset on a runner's box, and draws what was found. */
export function CheckDataset({ dataset, fresh, onClose }: Props) {
  const connected = runnersByName.value.filter((runner) => runner.connected);
  const [chosen, setChosen] = useState("");
  const runner = connected.find((one) => one.runnerId === chosen) ?? (chosen === "" ? connected[0] : undefined);
  const [sinceMs, setSinceMs] = useState(0);
  const [problem, setProblem] = useState("");
  const abort = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => abort.current?.abort(), []);
  const kept = reports.value.get(dataset.datasetId);
  const look = async () => {
    if (runner === undefined || sinceMs > 0) return;
    const { runnerId, name } = runner;
    setSinceMs(platformNow());
    setProblem("");
    const mine = new AbortController();
    abort.current = mine;
    try {
      const options = call(mine.signal, CHECK_TIMEOUT_MS);
      const { report } = await workflows.checkDataset({ datasetId: dataset.datasetId, runnerId }, options);
      if (report) keepReport(dataset.datasetId, { report, runnerName: name, atMs: platformNow() });
    } catch (error) {
      if (!mine.signal.aborted) setProblem(sentence(error));
    } finally {
      setSinceMs(0);
    }
  };
  const busy = sinceMs > 0;
  return (
    <Dialog
      title={fresh ? `${dataset.name} is registered` : `Check ${dataset.name}`}
      width={760}
      onClose={onClose}
      onSubmit={() => void look()}
      actions={
        <>
          <Button onClick={onClose}>{busy ? "Give up" : "Close"}</Button>
          {kept?.report.usable && !busy && (
            <ButtonLink href={`/workflows/new?dataset=${dataset.datasetId}`}>Make a workflow</ButtonLink>
          )}
          <Button kind="primary" submit busy={busy} disabled={runner === undefined}>
            {kept ? "Check again" : "Check it"}
          </Button>
        </>
      }
    >
      <p>
        The box reads every image of <code class="break">{dataset.location}</code> and says what can be trained on it.
        Nothing is charged for that.
      </p>
      {connected.length === 0 ? (
        <Note tone="warn">
          {runners.value === undefined ? "Looking for connected runners…" : "No runner is connected: "}
          {runners.value !== undefined && <a href="/runners">connect one</a>}
        </Note>
      ) : (
        <SelectField
          label="On which box"
          value={runner?.runnerId ?? chosen}
          disabled={busy}
          options={[
            ...(runner === undefined ? [{ value: chosen, label: "the chosen runner is gone", disabled: true }] : []),
            ...connected.map((one) => ({ value: one.runnerId, label: `${one.name} · ${runnerState(one).label}` })),
          ]}
          onChange={setChosen}
        />
      )}
      {busy && (
        <div role="status" class={css.checking}>
          <progress aria-label="Checking" />
          <span>
            {runner?.name ?? "The box"} reads the images…{" "}
            <span aria-hidden="true">{duration(now.value - sinceMs)}</span>
          </span>
        </div>
      )}
      {problem && <Note tone="bad">{problem}</Note>}
      {kept && !busy && <Report of={kept} />}
    </Dialog>
  );
}
