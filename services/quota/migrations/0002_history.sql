-- What totals were, whose jobs are, and on what they ran. All tables are filled anew from the log, because none of this
-- was kept before.
delete from checkpoints;

alter table jobs
    -- Who submitted it.
    add column person text not null default '',
    -- The saved workflow, or else `<dataset id>/<architecture id>`.
    add column workflow text not null default '',
    add column workflow_name text not null default '';

alter table attempts
    -- JSON: product name → sum of the multipliers of its GPUs, millionths; empty: not told.
    add column gpus text not null default '',
    -- Of its first outcome; `outcome_position` is of the one that holds. Zero: not known.
    add column ended_position bigint not null default 0,
    -- Under which it is found by a position at which it ran (services/quota/domain/spans.py).
    add column span_node bigint;
create index attempts_of_span on attempts (workspace_id, span_node) where span_node is not null;
create index attempts_corrected on attempts (workspace_id, outcome_position) where corrected;

-- When runners fell silent during an attempt, and were heard of again.
create table links (
    position bigint primary key,
    attempt_id text not null,
    cut_off boolean not null,
    -- Cut off: when it was last heard of, Unix milliseconds. Otherwise: for how long it had been cut off.
    ms bigint not null
);
create index links_of_attempt on links (attempt_id);

-- Each change of a row of `usage`: its totals from this position on.
create table usage_history (
    workspace_id text not null,
    period text not null,
    position bigint not null,
    charged_ms_micros numeric not null,
    adjusted_ms_micros numeric not null,
    primary key (workspace_id, period, position)
);

alter table adjustments
    -- The job that it names; empty: the workspace.
    add column job_id text not null default '';
create index adjustments_of_month on adjustments (workspace_id, period, position);
create index adjustments_of_job on adjustments (job_id) where job_id <> '';

create table quota_history (
    workspace_id text not null,
    position bigint not null,
    -- Null: unlimited.
    quota_milliminutes bigint,
    primary key (workspace_id, position)
);
