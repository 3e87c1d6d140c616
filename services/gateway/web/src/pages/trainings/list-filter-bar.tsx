import { useState } from "preact/hooks";
import { call, workflows } from "../../api/clients";
import type { JobState } from "../../gen/protos/scheduler/v1/job_pb";
import { runnersByName } from "../../live/stores";
import { Button } from "../../ui/button";
import { CheckField, type Option, SelectField, TextField } from "../../ui/fields";
import { useTyped } from "../../ui/typed";
import { useAsked } from "../../ui/use";
import css from "./list.module.css";
import { type Filters, isFiltering, NO_FILTERS, STATES } from "./list-filters";

/** Which trainings are wanted. */
export function FilterBar({ filters, onChange }: { filters: Filters; onChange: (filters: Filters) => void }) {
  const [search, setSearch] = useTyped(filters.search, (typed) => onChange({ ...filters, search: typed }));
  const choices = useChoices();
  const more = [filters.runner, filters.architecture, filters.dataset, filters.workflow, filters.mine].filter(Boolean);
  // Filters that came with the address are shown, not hidden in a fold.
  const [open, setOpen] = useState(more.length > 0);
  const toggle = (state: JobState) => {
    const states = filters.states.includes(state)
      ? filters.states.filter((one) => one !== state)
      : [...filters.states, state];
    onChange({ ...filters, states });
  };
  const select = (key: "runner" | "architecture" | "dataset" | "workflow", label: string, options: readonly Option[]) =>
    (options.length > 0 || filters[key] !== "") && (
      <SelectField
        label={label}
        value={filters[key]}
        options={withChosen([{ value: "", label: "All" }, ...options], filters[key])}
        onChange={(value) => onChange({ ...filters, [key]: value })}
      />
    );
  return (
    <div class={css.filters}>
      <div class={css.first}>
        <div class={css.search}>
          <TextField
            label="Search"
            type="search"
            value={search}
            onInput={setSearch}
            placeholder="Part of a name, or an id"
          />
        </div>
        <fieldset class={css.states}>
          <legend>State</legend>
          {STATES.map(({ state, word }) => (
            <button
              key={state}
              type="button"
              class={css.chip}
              aria-pressed={filters.states.includes(state)}
              onClick={() => toggle(state)}
            >
              {filters.states.includes(state) && <span aria-hidden="true">✓ </span>}
              {word}
            </button>
          ))}
        </fieldset>
        <div class={css.buttons}>
          <Button onClick={() => setOpen(!open)}>
            {open ? "Fewer filters" : more.length > 0 ? `More filters (${more.length})` : "More filters"}
          </Button>
          {isFiltering(filters) && (
            <Button kind="ghost" onClick={() => onChange(NO_FILTERS)}>
              Clear
            </Button>
          )}
        </div>
      </div>
      {open && (
        <div class={css.more}>
          {select(
            "runner",
            "Runner",
            runnersByName.value.map((runner) => ({ value: runner.runnerId, label: runner.name })),
          )}
          {select("architecture", "Architecture", choices.architectures)}
          {select("dataset", "Dataset", choices.datasets)}
          {select("workflow", "Workflow", choices.workflows)}
          <CheckField checked={filters.mine} onChange={(mine) => onChange({ ...filters, mine })}>
            Only mine
          </CheckField>
        </div>
      )}
    </div>
  );
}

/** What there is to choose from; what cannot be listed has no filter. */
function useChoices(): Record<"architectures" | "datasets" | "workflows", readonly Option[]> {
  const asked = useAsked(async (signal) => {
    const [architectures, datasets, saved] = await Promise.allSettled([
      workflows.listArchitectures({}, call(signal)),
      workflows.listDatasets({}, call(signal)),
      workflows.listWorkflows({}, call(signal)),
    ]);
    return {
      architectures: (architectures.status === "fulfilled" ? architectures.value.architectures : []).map((one) => ({
        value: one.architectureId,
        label: one.architectureId,
      })),
      datasets: (datasets.status === "fulfilled" ? datasets.value.datasets : []).map((one) => ({
        value: one.datasetId,
        label: one.name,
      })),
      workflows: (saved.status === "fulfilled" ? saved.value.workflows : []).map((one) => ({
        value: one.workflow?.workflowId ?? "",
        label: one.workflow?.name ?? "",
      })),
    };
  }, []);
  return asked.value ?? { architectures: [], datasets: [], workflows: [] };
}

/** A choice that is in no list any more, such as a runner that was uninstalled, stays visible. */
function withChosen(options: readonly Option[], chosen: string): readonly Option[] {
  return options.some((option) => option.value === chosen) ? options : [...options, { value: chosen, label: chosen }];
}
