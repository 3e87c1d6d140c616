-- Which files of a job the platform has; the metrics service tells it in streams of their own.
create table artifacts (
    artifact_id text primary key,
    job_id text not null,
    is_checkpoint boolean not null,
    version bigint not null,
    state text not null
);
create index checkpoints_of_job on artifacts (job_id) where is_checkpoint;
