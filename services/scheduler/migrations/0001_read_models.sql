-- Read models of the scheduler: each row is an aggregate folded from its stream, written with its events.
create table workspaces (
    workspace_id text primary key,
    name text not null,
    version bigint not null,
    state text not null
);

create table runners (
    runner_id text primary key,
    workspace_id text not null,
    name text not null,
    status smallint not null,
    connected boolean not null,
    replica text not null,
    uninstalled boolean not null,
    -- When the first of its suspensions ends by itself, Unix milliseconds; zero: none does.
    suspended_until_ms bigint not null,
    version bigint not null,
    state text not null
);
create unique index runner_names on runners (workspace_id, name) where not uninstalled;
create index runners_suspended_for_a_time on runners (suspended_until_ms) where suspended_until_ms > 0;
create index connected_runners on runners (replica) where connected;

create table jobs (
    job_id text primary key,
    workspace_id text not null,
    state_code smallint not null,
    runner_id text not null,
    submitted_position bigint not null,
    version bigint not null,
    state text not null
);
create index jobs_by_age on jobs (workspace_id, submitted_position desc);
-- States 1 to 4 are not over: QUEUED, ASSIGNED, RUNNING, STOPPING.
create index jobs_not_over on jobs (state_code, submitted_position) where state_code <= 4;

-- Scheduler processes; the sessions of one whose lease has expired are over.
create table replicas (
    replica text primary key,
    expires_at timestamptz not null
);
