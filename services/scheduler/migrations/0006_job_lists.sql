-- What lists of jobs are filtered by. All but the runner is told by the submission and never changes. Rows of older
-- versions are completed at the start, from their state: see job_lists.py.
alter table jobs
    -- The job's name without its case, as `folded` of job_lists.py makes it.
    add column name_folded text,
    -- Of the current or last attempt; empty before the first.
    add column last_runner_id text,
    add column dataset_id text,
    add column architecture_id text,
    add column workflow_id text,
    add column submitted_by text;

-- Most events of a job change none of what follows: with room on its page, its new row needs no entry in any index.
alter table jobs set (fillfactor = 70);

create index jobs_to_complete on jobs (job_id) where dataset_id is null;

-- Each gives a page, newest first, without looking at jobs that are not in it. The name is there for `search`, which
-- then reads no rows: `pg_trgm` is not in every PostgreSQL.
drop index jobs_by_age;
create index jobs_by_age on jobs (workspace_id, submitted_position desc) include (name_folded, job_id);
create index jobs_by_state on jobs (workspace_id, state_code, submitted_position desc);
create index jobs_by_runner on jobs (workspace_id, last_runner_id, submitted_position desc) where last_runner_id <> '';
create index jobs_by_dataset on jobs (workspace_id, dataset_id, submitted_position desc);
create index jobs_by_architecture on jobs (workspace_id, architecture_id, submitted_position desc);
create index jobs_by_workflow on jobs (workspace_id, workflow_id, submitted_position desc) where workflow_id <> '';
create index jobs_by_person on jobs (workspace_id, submitted_by, submitted_position desc);
