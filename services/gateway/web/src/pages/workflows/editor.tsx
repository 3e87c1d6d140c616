import { useEffect, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { mayWrite } from "../../api/session";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import { Ago } from "../../ui/ago";
import { Button } from "../../ui/button";
import { MoreIcon } from "../../ui/icons";
import { Head } from "../../ui/layout";
import { Menu } from "../../ui/menu";
import { Note } from "../../ui/note";
import { say } from "../../ui/toasts";
import { RunTraining } from "../run/run";
import { useArchitectures, useDatasets } from "./catalogue";
import { DeleteWorkflow } from "./delete";
import { formOf, problemsOf, sameForm, type WorkflowForm } from "./form";
import { Unsaved } from "./guard";
import { person } from "./people";
import { useSave } from "./save";
import { Sections } from "./sections";
import css from "./workflows.module.css";

/** What an empty field is blamed for only once somebody tried to save. */
const REQUIRED = ["name", "dataset_id", "architecture_id", "weights.checkpoint"];

/** The form of a workflow, new or saved. */
export function Editor({ begin, saved: first }: { begin: WorkflowForm; saved: SavedWorkflow | undefined }) {
  const { query, route } = useLocation();
  const datasets = useDatasets();
  const architectures = useArchitectures();
  const [saved, setSaved] = useState(first);
  const [base, setBase] = useState(begin);
  const [form, setForm] = useState(begin);
  const [attempted, setAttempted] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const id = saved?.workflow?.workflowId ?? "";
  const revision = saved?.workflow?.revision ?? 0;
  const { busy, failure, conflict, store, load, clear } = useSave(form, { workflowId: id, revision });
  const dirty = !sameForm(form, base);
  const latest = useRef(form);
  latest.current = form;
  const wrong = problemsOf(form, datasets.value, architectures.value);
  const shown = Object.fromEntries(
    Object.entries(wrong).filter(([field]) => attempted || !REQUIRED.includes(field) || filled(form, field)),
  );
  const problems = failure ? { ...shown, [failure.field]: failure.problem } : shown;
  const change = (next: WorkflowForm) => {
    setForm(next);
    clear();
  };
  /** Takes over what the platform has; what differs from `sent` was typed meanwhile, and stays. */
  const take = (made: SavedWorkflow, sent?: WorkflowForm) => {
    const next = made.workflow ? formOf(made.workflow) : form;
    setSaved(made);
    setBase(next);
    setForm((typed) => (sent === undefined || sameForm(typed, sent) ? next : typed));
    setAttempted(false);
  };
  /** Saves, over revision `over` where that is given; where to go then, or empty where one has to stay. */
  const save = async (over = revision): Promise<string> => {
    setAttempted(true);
    if (Object.keys(wrong).length > 0) return "";
    const made = await store(over);
    if (made?.workflow === undefined) return "";
    // A new one has another address from now on, but who has typed on meanwhile must not be taken away from that.
    const stay = first === undefined && !sameForm(latest.current, form);
    take(made, form);
    say(
      id ? `${made.workflow.name} is saved as revision ${made.workflow.revision}.` : `${made.workflow.name} is saved.`,
    );
    return stay ? "" : made.workflow.workflowId;
  };
  const saveOnly = async (over?: number) => {
    const made = await save(over);
    if (made && first === undefined) route(`/workflows/${made}`, true);
  };
  const run = async () => {
    const target = id && !dirty ? id : await save();
    if (target) route(`/workflows/${target}?run=1`, true);
  };
  const loadNewest = async () => {
    const newest = await load(id);
    if (newest) take(newest);
  };
  useFirstProblem(attempted, problems);
  return (
    <>
      <Unsaved when={dirty && mayWrite.value} />
      <Head
        title={saved?.workflow?.name ?? "New workflow"}
        actions={
          mayWrite.value &&
          id && (
            <Menu
              label="Actions for this workflow"
              items={[
                {
                  label: dirty ? "Duplicate: save first" : "Duplicate",
                  disabled: dirty,
                  onChoose: () => route(`/workflows/new?from=${id}`),
                },
                { label: "Delete…", onChoose: () => setDeleting(true) },
              ]}
            >
              <MoreIcon />
            </Menu>
          )
        }
      >
        {saved ? (
          <>
            Revision {revision} · saved <Ago ms={Number(saved.revisedAtMs)} /> by {person(saved.revisedBy)}
          </>
        ) : (
          "What a training is made of: dataset, architecture, hyperparameters, augmentations"
        )}
      </Head>
      <fieldset class={css.form} disabled={!mayWrite.value}>
        <Sections form={form} datasets={datasets} architectures={architectures} problems={problems} onChange={change} />
      </fieldset>
      {mayWrite.value && (
        <div class={css.bottom}>
          {failure && <Note tone="bad">{failure.sentence}</Note>}
          {conflict !== undefined && (
            <Note tone="warn">
              <p>
                Somebody saved revision {conflict} meanwhile, and your changes are of revision {revision}. Nothing that
                you typed is lost.
              </p>
              <div class={css.choices}>
                <Button small busy={busy} onClick={() => void loadNewest()}>
                  Load revision {conflict} and drop my changes
                </Button>
                <Button small busy={busy} onClick={() => void saveOnly(conflict)}>
                  Save mine over it
                </Button>
              </div>
            </Note>
          )}
          {attempted && Object.keys(wrong).length > 0 && (
            <Note tone="bad">Mend what is marked in red; then it can be saved.</Note>
          )}
          <div class={css.buttons}>
            <span class="quiet" role="status">
              {dirty || id === "" ? "Not saved" : `Revision ${revision}`}
            </span>
            <Button busy={busy} disabled={id !== "" && !dirty} onClick={() => void saveOnly()}>
              Save
            </Button>
            <Button kind="run" busy={busy} onClick={() => void run()}>
              {dirty || id === "" ? "Save and Run Training" : "Run Training"}
            </Button>
          </div>
        </div>
      )}
      {query.run === "1" && id && mayWrite.value && (
        <RunTraining workflowId={id} onClose={() => route(`/workflows/${id}`, true)} />
      )}
      {deleting && saved && (
        <DeleteWorkflow of={saved} onClose={() => setDeleting(false)} onDone={() => route("/workflows")} />
      )}
    </>
  );
}

function filled(form: WorkflowForm, field: string): boolean {
  if (field === "dataset_id") return form.datasetId !== "";
  if (field === "architecture_id") return form.architectureId !== "";
  return field === "name" && form.name !== "";
}

/** Brings the first field with a problem into sight, once somebody tried to save. */
function useFirstProblem(attempted: boolean, problems: Readonly<Record<string, string>>): void {
  const any = attempted && Object.keys(problems).length > 0;
  useEffect(() => {
    if (any) document.querySelector<HTMLElement>('#main [aria-invalid="true"]')?.focus();
  }, [any]);
}
