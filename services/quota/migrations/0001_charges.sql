-- Read models: all of it is a function of the log and can be dropped and rebuilt.
-- Sums are numeric: milliseconds × millionths of many boxes pass 64 bits.

create table checkpoints (
    name text primary key,
    position bigint not null,
    log_id uuid not null
);

create table jobs (
    job_id text primary key,
    workspace_id text not null,
    name text not null,
    -- Of its first event; orders jobs, newest first.
    position bigint not null
);
create index jobs_newest on jobs (workspace_id, position desc);

-- One row an attempt, with everything that its charge depends on. A position of zero: that fact is not known.
create table attempts (
    attempt_id text primary key,
    workspace_id text not null,
    job_id text not null,
    assigned_position bigint not null,
    runner_id text not null,
    runner_name text not null,
    rate_micros bigint not null,
    simulated boolean not null,
    started_position bigint not null,
    started_at_ms bigint not null,
    link_position bigint not null,
    deadline_at_ms bigint not null,
    outcome_position bigint not null,
    corrected boolean not null,
    charged_from_ms bigint not null,
    charged_until_ms bigint not null,
    ended_at_ms bigint not null,
    presumed boolean not null,
    reason int not null
);
create index attempts_of_job on attempts (job_id);
create index attempts_running on attempts (workspace_id) where started_position > 0 and outcome_position = 0;

-- What attempts that have ended cost, by job and month.
create table job_usage (
    workspace_id text not null,
    period text not null,
    job_position bigint not null,
    job_id text not null,
    ms_micros numeric not null,
    primary key (workspace_id, period, job_position)
);

-- The same summed over jobs, so that usage is one row however many jobs there were.
create table usage (
    workspace_id text not null,
    period text not null,
    charged_ms_micros numeric not null default 0,
    adjusted_ms_micros numeric not null default 0,
    primary key (workspace_id, period)
);

create table adjustments (
    position bigint primary key,
    workspace_id text not null,
    period text not null,
    ms_micros numeric not null
);

create table quotas (
    workspace_id text primary key,
    -- Null: unlimited.
    quota_milliminutes bigint,
    position bigint not null
);

-- What was announced.
create table thresholds (
    workspace_id text not null,
    period text not null,
    percent int not null,
    position bigint not null,
    primary key (workspace_id, period, percent)
);
create table exhaustions (
    workspace_id text not null,
    period text not null,
    -- Of the newest QuotaExhausted of the period.
    position bigint not null,
    primary key (workspace_id, period)
);
