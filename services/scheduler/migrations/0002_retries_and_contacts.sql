-- A job that waits to be tried again goes first.
alter table jobs add column waits_for_retry boolean not null default false;
create index jobs_queue on jobs (waits_for_retry desc, submitted_position) where state_code = 1;

-- When runners that hold an attempt were heard last, as of the last half minute: truth of its own, not of the log.
create table contacts (
    runner_id text primary key,
    attempt_id text not null,
    -- Platform time, Unix milliseconds.
    heard_at_ms bigint not null
);
