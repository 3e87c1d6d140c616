-- What trainings reported: truth of its own, acknowledged to the boxes after the commit.

-- One high-water row for each spool of an attempt; whoever stores records of the spool locks it first.
create table spools (
    spool_id bigint generated always as identity primary key,
    attempt_id text not null,
    spool text not null,
    job_id text not null,
    -- Position of the attempt's JobAssigned: orders the attempts of a job.
    assigned_position bigint not null,
    -- Every record up to here is stored, or was refused for good.
    sequence bigint not null default 0,
    -- Log lines stored; they are numbered from 1 without a hole.
    lines bigint not null default 0,
    -- Records and values that broke a limit and were skipped.
    refused bigint not null default 0,
    unique (attempt_id, spool)
) with (fillfactor = 50);
create index spools_of_job on spools (job_id);

-- One row for each name within a spool, with what a list of series shows.
create table series (
    series_id bigint generated always as identity primary key,
    spool_id bigint not null references spools,
    name text not null,
    points bigint not null default 0,
    first_step bigint not null default 9223372036854775807,
    last_step bigint not null default -9223372036854775808,
    last_value double precision not null default 'NaN',
    unique (spool_id, name)
) with (fillfactor = 50);

-- One row for each series and batch: the columns of its points, little-endian, in the order of arrival.
create table chunks (
    spool_id bigint not null,
    -- Of the batch's last record; a watcher's cursor.
    sequence bigint not null,
    series_id bigint not null,
    points int not null,
    -- Lowest and highest step.
    first_step bigint not null,
    last_step bigint not null,
    first_at_ms bigint not null,
    -- int64 each; empty where the steps go from first to last in equal strides.
    steps bytea not null,
    -- float64 each.
    "values" bytea not null,
    -- Offsets from first_at_ms, int32 each, or int64 where one does not fit.
    at_ms bytea not null,
    primary key (spool_id, sequence, series_id)
    -- Out-of-line storage would cost a second look-up a chunk, compression more than it saves on float64.
) with (toast_tuple_target = 8160);
alter table chunks
    alter column steps set storage external,
    alter column "values" set storage external,
    alter column at_ms set storage external;
create index chunks_of_series on chunks (series_id, first_step, sequence);

-- Runs of log lines: a tether.metrics.v1.ReportRequest with nothing but its records.
create table log_chunks (
    spool_id bigint not null,
    last_line bigint not null,
    lines int not null,
    records bytea not null,
    primary key (spool_id, last_line)
);

create table evaluations (
    spool_id bigint not null,
    sequence bigint not null,
    step bigint not null,
    -- tether.metrics.v1.Evaluation without its matrix.
    evaluation bytea not null,
    -- tether.training.v1.ConfusionMatrix.
    matrix bytea,
    primary key (spool_id, sequence)
);

-- Read models: functions of the log, which may be dropped and rebuilt.
create table checkpoints (name text primary key, position bigint not null, log_id uuid not null);

create table jobs (job_id text primary key, workspace_id text not null);

create table attempts (
    attempt_id text primary key,
    job_id text not null,
    workspace_id text not null,
    runner_id text not null,
    assigned_position bigint not null
);
