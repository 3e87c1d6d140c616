import type { ComponentChildren } from "preact";
import { mayWrite } from "../../api/session";
import type { Dataset } from "../../gen/protos/training/v1/training_pb";
import { runnersByName } from "../../live/stores";
import { Button, ButtonLink } from "../../ui/button";
import { Card } from "../../ui/layout";
import { Empty } from "../../ui/note";
import css from "./workflows.module.css";

/** Where there is no workflow yet: the way from a folder of images to a training. */
export function Start({ datasets, onRegister }: { datasets: readonly Dataset[] | undefined; onRegister: () => void }) {
  const have = (datasets?.length ?? 0) > 0;
  const connected = runnersByName.value.some((runner) => runner.connected);
  if (!mayWrite.value)
    return (
      <Card>
        <Empty title="No workflow yet">Members and admins of this workspace can make one.</Empty>
      </Card>
    );
  return (
    <Card title="From a folder of images to a training">
      <ol class={css.start}>
        <Step done={have} title="Register a dataset">
          <p class="quiet">
            {have
              ? `${datasets?.length} ${datasets?.length === 1 ? "dataset is" : "datasets are"} registered.`
              : "Say where the images lie on the box, and in which of four formats. They stay where they are."}
          </p>
          {have ? (
            <ButtonLink href="/workflows?tab=datasets">Look at them</ButtonLink>
          ) : (
            <Button kind="primary" onClick={onRegister}>
              Register a dataset
            </Button>
          )}
        </Step>
        <Step done={false} title="Make a workflow">
          <p class="quiet">Choose what is trained on it: an architecture that fits, and its hyperparameters.</p>
          <ButtonLink kind={have ? "primary" : "plain"} href="/workflows/new">
            New workflow
          </ButtonLink>
        </Step>
        <Step done={false} title="Run Training">
          <p class="quiet">
            {connected
              ? "Choose one of your runners, and watch the loss fall."
              : "Choose one of your runners. None is connected now."}
          </p>
          {!connected && <ButtonLink href="/runners">Runners</ButtonLink>}
        </Step>
      </ol>
    </Card>
  );
}

function Step({ done, title, children }: { done: boolean; title: string; children: ComponentChildren }) {
  return (
    <li class={css.step}>
      <h3>
        {title} {done && <span class={css.done}>✔ done</span>}
      </h3>
      {children}
    </li>
  );
}
