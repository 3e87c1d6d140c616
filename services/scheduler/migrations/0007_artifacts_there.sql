-- A training with a checkpoint strategy leaves many rows of files that were removed; a view of it reads those that are
-- there, and of the others only the versions, from the index.
alter table artifacts add column there boolean not null default true;
update artifacts
set there = (state::json ->> 'stored_position')::bigint > 0 and (state::json ->> 'removed_position')::bigint = 0;
drop index checkpoints_of_job;
create index checkpoints_of_job on artifacts (job_id) include (version) where is_checkpoint;
create index checkpoints_there on artifacts (job_id) where is_checkpoint and there;
