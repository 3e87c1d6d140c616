import { useState } from "preact/hooks";
import { mayWrite } from "../../api/session";
import type { Dataset } from "../../gen/protos/training/v1/training_pb";
import { Ago } from "../../ui/ago";
import { Button, ButtonLink } from "../../ui/button";
import { Card } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import type { Asked } from "../../ui/use";
import { reports } from "./catalogue";
import { CheckDataset } from "./check";
import { formatOf, taskName } from "./formats";
import { RegisterDataset } from "./register";
import { Verdict } from "./report";
import css from "./workflows.module.css";

/** The datasets of the workspace: what they are called, where they lie, whether they can be trained on. */
export function Datasets({ datasets, onRegister }: { datasets: Asked<Dataset[]>; onRegister: () => void }) {
  const [checking, setChecking] = useState<Dataset>();
  const found = datasets.value;
  return (
    <>
      <Card flush>
        {datasets.problem && found === undefined ? (
          <Failed retry={datasets.reload}>{datasets.problem}</Failed>
        ) : found === undefined ? (
          <Loading what="Loading the datasets" />
        ) : found.length === 0 ? (
          <Empty
            title="No dataset yet"
            action={
              mayWrite.value && (
                <Button kind="primary" onClick={onRegister}>
                  Register a dataset
                </Button>
              )
            }
          >
            A dataset is a folder of images on the box that trains, or at a URL that the box may read. The platform
            keeps its name and where it lies, never the images. To try things out without data of your own, run{" "}
            <code>tether-runner sample digits ~/digits</code> on a box.
          </Empty>
        ) : (
          <>
            <div class={`${css.dataset} ${css.heads}`} aria-hidden="true">
              <span>Dataset</span>
              <span>Format</span>
              <span>Last check</span>
              <span />
            </div>
            <Rows
              label="Datasets"
              items={found}
              keyOf={(dataset) => dataset.datasetId}
              height={62}
              window="calc(100dvh - 290px)"
            >
              {(dataset) => <Row dataset={dataset} onCheck={() => setChecking(dataset)} />}
            </Rows>
          </>
        )}
      </Card>
      {checking && <CheckDataset dataset={checking} onClose={() => setChecking(undefined)} />}
    </>
  );
}

function Row({ dataset, onCheck }: { dataset: Dataset; onCheck: () => void }) {
  const kept = reports.value.get(dataset.datasetId);
  const { name, task } = formatOf(dataset);
  return (
    <div class={css.dataset}>
      <div>
        <strong class="break">{dataset.name}</strong>
        <div class={css.sub}>
          <code>{dataset.location}</code>
        </div>
      </div>
      <div>
        {name}
        <div class={css.sub}>{taskName(task)}</div>
      </div>
      <div>
        {kept ? (
          <>
            <Verdict of={kept} />
            <div class={css.sub}>
              <Ago ms={kept.atMs} />
            </div>
          </>
        ) : (
          <span class="quiet">not checked from here</span>
        )}
      </div>
      <div class={css.rowActions}>
        {mayWrite.value && (
          <>
            <Button small onClick={onCheck}>
              {kept ? "Report…" : "Check…"}
              <span class="visually-hidden"> of {dataset.name}</span>
            </Button>
            <ButtonLink small href={`/workflows/new?dataset=${dataset.datasetId}`}>
              Make a workflow<span class="visually-hidden"> on {dataset.name}</span>
            </ButtonLink>
          </>
        )}
      </div>
    </div>
  );
}

/** Registers a dataset, and then offers to look at it. */
export function RegisterAndCheck({ onClose, onDone }: { onClose: () => void; onDone: (made: Dataset) => void }) {
  const [made, setMade] = useState<Dataset>();
  if (made) return <CheckDataset dataset={made} fresh onClose={onClose} />;
  return (
    <RegisterDataset
      onClose={onClose}
      onDone={(dataset) => {
        setMade(dataset);
        onDone(dataset);
      }}
    />
  );
}
