import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { workflows as api, call } from "../../api/clients";
import { mayWrite } from "../../api/session";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import { Button, ButtonLink } from "../../ui/button";
import { TextField } from "../../ui/fields";
import { Card, Head } from "../../ui/layout";
import { Empty, Failed, Loading } from "../../ui/note";
import { Rows } from "../../ui/rows";
import { Tabs } from "../../ui/tabs";
import { useAsked } from "../../ui/use";
import { RunTraining } from "../run/run";
import { useArchitectures, useDatasets } from "./catalogue";
import { Datasets, RegisterAndCheck } from "./datasets";
import { DeleteWorkflow } from "./delete";
import { Heads, Row } from "./row";
import { Start } from "./start";
import css from "./workflows.module.css";

/** Saved workflows, and the datasets that they train on. */
export default function Workflows() {
  const { query, route } = useLocation();
  const tab = query.tab === "datasets" ? "datasets" : "workflows";
  const datasets = useDatasets();
  const [registering, setRegistering] = useState(false);
  const asked = useAsked(async (signal) => (await api.listWorkflows({}, call(signal))).workflows, []);
  const number = (found: readonly unknown[] | undefined) => (found?.length ? ` (${found.length})` : "");
  const register = () => setRegistering(true);
  return (
    <>
      <Head
        title={tab === "datasets" ? "Datasets" : "Workflows"}
        actions={
          mayWrite.value &&
          (tab === "datasets" ? (
            <Button kind="primary" onClick={register}>
              Register a dataset
            </Button>
          ) : (
            <ButtonLink kind="primary" href="/workflows/new">
              New workflow
            </ButtonLink>
          ))
        }
      >
        {tab === "datasets"
          ? "Folders of images on your boxes, by name"
          : "What trainings are made of: dataset, architecture, hyperparameters, augmentations"}
      </Head>
      <Tabs
        label="Workflows and datasets"
        tabs={[
          { id: "workflows", label: `Workflows${number(asked.value)}` },
          { id: "datasets", label: `Datasets${number(datasets.value)}` },
        ]}
        chosen={tab}
        onChoose={(id) => route(id === "datasets" ? "/workflows?tab=datasets" : "/workflows", true)}
      >
        {tab === "datasets" ? (
          <Datasets datasets={datasets} onRegister={register} />
        ) : asked.value === undefined ? (
          asked.problem ? (
            <Failed retry={asked.reload}>{asked.problem}</Failed>
          ) : (
            <Loading what="Loading the workflows" />
          )
        ) : asked.value.length === 0 ? (
          <Start datasets={datasets.value} onRegister={register} />
        ) : (
          <List workflows={asked.value} reload={asked.reload} />
        )}
      </Tabs>
      {registering && <RegisterAndCheck onClose={() => setRegistering(false)} onDone={datasets.reload} />}
    </>
  );
}

function List({ workflows, reload }: { workflows: readonly SavedWorkflow[]; reload: () => void }) {
  const [search, setSearch] = useState("");
  const [running, setRunning] = useState("");
  const [deleting, setDeleting] = useState<SavedWorkflow>();
  const architectures = useArchitectures();
  const shown = workflows.filter((one) => matches(one, search));
  return (
    <Card flush>
      {workflows.length > 8 && (
        <div class={css.filter}>
          <TextField
            label="Filter"
            type="search"
            value={search}
            onInput={setSearch}
            placeholder="Name, dataset or architecture"
          />
        </div>
      )}
      <Heads />
      {shown.length === 0 ? (
        <Empty title="No workflow matches">Nothing fits “{search}”.</Empty>
      ) : (
        <Rows
          label="Workflows"
          items={shown}
          keyOf={(one) => one.workflow?.workflowId ?? ""}
          height={58}
          window="calc(100dvh - 290px)"
        >
          {(one) => (
            <Row
              saved={one}
              architectures={architectures.value}
              onRun={() => setRunning(one.workflow?.workflowId ?? "")}
              onDelete={() => setDeleting(one)}
            />
          )}
        </Rows>
      )}
      {running && <RunTraining workflowId={running} onClose={() => setRunning("")} />}
      {deleting && <DeleteWorkflow of={deleting} onClose={() => setDeleting(undefined)} onDone={reload} />}
    </Card>
  );
}

function matches({ workflow, datasetName }: SavedWorkflow, search: string): boolean {
  const text = `${workflow?.name} ${datasetName} ${workflow?.architectureId}`.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
