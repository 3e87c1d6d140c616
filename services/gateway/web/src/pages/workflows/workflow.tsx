import { useLocation, useRoute } from "preact-iso";
import { call, workflows } from "../../api/clients";
import type { SavedWorkflow } from "../../gen/protos/scheduler/v1/workflow_pb";
import { ButtonLink } from "../../ui/button";
import { Head } from "../../ui/layout";
import { Empty, Loading } from "../../ui/note";
import { useAsked } from "../../ui/use";
import { Editor } from "./editor";
import { copyName, emptyForm, formOf, type WorkflowForm } from "./form";

/** `/workflows/new`, `/workflows/new?from=<id>`, `/workflows/<id>`. */
export default function WorkflowPage() {
  const id = useRoute().params.id ?? "";
  const { query } = useLocation();
  const isNew = id === "new";
  const from = isNew ? (query.from ?? "") : id;
  const dataset = isNew ? (query.dataset ?? "") : "";
  return <Loader key={`${id} ${from} ${dataset}`} isNew={isNew} from={from} datasetId={dataset} />;
}

interface Begin {
  readonly saved: SavedWorkflow | undefined;
  readonly form: WorkflowForm;
}

function Loader({ isNew, from, datasetId }: { isNew: boolean; from: string; datasetId: string }) {
  const asked = useAsked(
    async (signal): Promise<Begin> => {
      if (from === "") return { saved: undefined, form: { ...emptyForm(), datasetId } };
      const { workflow: saved } = await workflows.getWorkflow({ workflowId: from }, call(signal));
      const form = saved?.workflow ? formOf(saved.workflow) : emptyForm();
      if (!isNew) return { saved, form };
      const { workflows: all } = await workflows.listWorkflows({}, call(signal));
      const name = copyName(
        form.name,
        all.map((one) => one.workflow?.name ?? ""),
      );
      return { saved: undefined, form: { ...form, name } };
    },
    [from],
  );
  if (asked.value === undefined)
    return asked.problem ? (
      <>
        <Head title="Workflow" />
        <Empty title="This workflow cannot be shown" action={<ButtonLink href="/workflows">All workflows</ButtonLink>}>
          {asked.problem}
        </Empty>
      </>
    ) : (
      <Loading what="Loading the workflow" lines={8} />
    );
  return <Editor begin={asked.value.form} saved={asked.value.saved} />;
}
