import { useLayoutEffect, useRef } from "preact/hooks";
import { integer } from "../../format";
import type { Runner } from "../../gen/protos/scheduler/v1/runner_pb";
import { type Architecture, RequirementsBasis } from "../../gen/protos/training/v1/training_pb";
import { runnersByName } from "../../live/stores";
import { runnerState } from "../../states";
import { Facts } from "../../ui/layout";
import { Badge, Note, StateBadge } from "../../ui/note";
import { candidate, gib, shortages } from "../run/fit";
import { millions } from "./catalogue";
import { taskName } from "./formats";
import css from "./workflows.module.css";

interface Props {
  /** Those that learn what the dataset shows. */
  architectures: readonly Architecture[];
  chosen: string;
  problem: string | undefined;
  onChoose: (architectureId: string) => void;
}

/** The catalogue as cards, each with what it needs and how many of the connected runners have that. */
export function Architectures({ architectures, chosen, problem, onChoose }: Props) {
  const connected = runnersByName.value.filter((runner) => runner.connected);
  const list = useRef<HTMLFieldSetElement>(null);
  // The chosen one may be far down the list, which scrolls by itself.
  useLayoutEffect(() => {
    const card = list.current?.querySelector("input:checked")?.parentElement;
    if (list.current && card) list.current.scrollTop = card.offsetTop - 60;
  }, []);
  return (
    <fieldset ref={list} class={css.cards} aria-describedby={problem ? "architecture-problem" : undefined}>
      <legend class="visually-hidden">Architecture</legend>
      {problem && (
        <p class={css.problem} id="architecture-problem" role="alert">
          {problem}
        </p>
      )}
      {architectures.map((one) => (
        <label key={one.architectureId} class={css.card}>
          <input
            type="radio"
            name="architecture"
            value={one.architectureId}
            checked={one.architectureId === chosen}
            onChange={() => onChoose(one.architectureId)}
          />
          <span class={css.cardText}>
            <span class={css.cardName}>{one.architectureId}</span>
            <span class="quiet">{one.description}</span>
            <span class={css.cardFacts}>
              <span>{millions(one.parameters)} parameters</span>
              <span>{needs(one)}</span>
              {one.pretrained && <span>pretrained weights published</span>}
              <span>{fitting(one, connected)}</span>
            </span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

function needs(one: Architecture): string {
  const { requirements } = one;
  if (requirements === undefined) return "requirements not known";
  return `${gib(Number(requirements.minGpuVramBytes))} VRAM or more`;
}

function fitting(one: Architecture, connected: readonly Runner[]): string {
  if (connected.length === 0) return "no runner is connected";
  const fit = connected.filter((runner) => shortages(runner, one, "minimum").length === 0).length;
  if (fit === 0) return `✘ fits no connected runner`;
  return fit === connected.length ? "✔ fits every connected runner" : `✔ fits ${fit} of ${connected.length} runners`;
}

/** Model Compute Requirements of one architecture, and each connected runner beside them. */
export function Requirements({ of: one }: { of: Architecture }) {
  const { requirements: needed } = one;
  const connected = runnersByName.value.filter((runner) => runner.connected);
  const pair = (least: bigint, best: bigint) => (
    <>
      {gib(Number(least))} at least, {gib(Number(best))} recommended
    </>
  );
  return (
    <div class={css.requirements}>
      <h3>What {one.architectureId} needs</h3>
      <Facts
        of={[
          ["Task", taskName(one.task)],
          ["VRAM per GPU", needed && pair(needed.minGpuVramBytes, needed.recommendedGpuVramBytes)],
          ["RAM", needed && pair(needed.minCpuRamBytes, needed.recommendedCpuRamBytes)],
          ["Known by", needed && basis(needed.basis, needed.measuredOn)],
          ["At", needed && `${integer(needed.batchSize)} images of ${integer(needed.imageSize)} px per GPU`],
          ["Parameters", millions(one.parameters)],
          ["Pretrained", one.pretrained ? <code class="break">{one.pretrained}</code> : "none published"],
        ]}
      />
      <h3>On your runners</h3>
      {connected.length === 0 ? (
        <p class="quiet">
          No runner is connected. <a href="/runners">Connect one</a>
        </p>
      ) : (
        <ul class={css.plain}>
          {connected.slice(0, MOST).map((runner) => (
            <li key={runner.runnerId} class={css.fit}>
              <Fit runner={runner} architecture={one} />
            </li>
          ))}
        </ul>
      )}
      {connected.length > MOST && <p class="quiet">and {connected.length - MOST} more</p>}
    </div>
  );
}

const MOST = 12;

function Fit({ runner, architecture }: { runner: Runner; architecture: Architecture }) {
  const found = candidate(runner, architecture);
  const tight = found.warnings.length > 0;
  return (
    <>
      <StateBadge state={runnerState(runner)} />
      <strong class="break">{runner.name}</strong>
      {found.standing === "never" ? (
        <Badge tone="bad">✘ too small</Badge>
      ) : tight ? (
        <Badge tone="warn">⚠ below the recommended</Badge>
      ) : (
        <Badge tone="good">✔ fits</Badge>
      )}
      {(found.standing === "never" || tight) && (
        <span class={css.fitWhy}>{found.standing === "never" ? found.why : found.warnings.join(" ")}</span>
      )}
    </>
  );
}

function basis(value: RequirementsBasis, on: string): string {
  if (value === RequirementsBasis.MEASURED) return `measured${on && ` on ${on}`}`;
  return value === RequirementsBasis.COMPUTED ? "computed from the tensors of a training step" : "an estimate";
}

/** What stands in place of the cards while no dataset says what is to be learned. */
export function NoTask() {
  return <Note>Choose a dataset first: what it shows says which architectures can learn it.</Note>;
}
