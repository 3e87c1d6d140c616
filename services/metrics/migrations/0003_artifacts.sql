-- Files that trainings leave: truth of its own, but for `state`: a row is READY (2) exactly where the log has
-- ArtifactStored and no ArtifactRemoved, because it is written in the transaction that appends them.
create table artifacts (
    artifact_id text primary key,
    workspace_id text not null,
    job_id text not null,
    attempt_id text not null,
    -- tether.metrics.v1.ArtifactKind.
    kind smallint not null,
    name text not null,
    -- tether.metrics.v1.ArtifactState; or 4, removed: the row stays, so that a late upload is not taken again.
    state smallint not null default 1,
    message text not null default '',
    bytes bigint not null default 0,
    sha256 text not null default '',
    step bigint not null default 0,
    created_at_ms bigint not null,
    -- The checkpoint strategy has dropped it: it is to be removed.
    dropped boolean not null default false,
    -- Of a removed one: the store may still have the file.
    file_left boolean not null default true,
    -- Of an export: what it is made of, the request that asked for it, and the box that makes it, until then.
    checkpoint text not null default '',
    asked_by text not null default '',
    request_id text not null default '',
    request_sha256 bytea not null default '',
    claimed_by text not null default '',
    claimed_until_ms bigint not null default 0
);
create index artifacts_of_job on artifacts (job_id, created_at_ms);
create index artifacts_of_workspace on artifacts (workspace_id) include (bytes, state);
create unique index artifact_of_checkpoint on artifacts (attempt_id, name) where kind = 1;
-- The same export is made once, unless it has failed.
create unique index artifact_of_export on artifacts (attempt_id, checkpoint, kind) where kind <> 1 and state in (1, 2);
create unique index artifact_of_request on artifacts (asked_by, request_id) where request_id <> '';
create index artifacts_to_export on artifacts (created_at_ms) where kind <> 1 and state = 1;
create index artifacts_to_remove on artifacts (artifact_id) where dropped and state in (1, 2);
create index artifacts_to_clear on artifacts (artifact_id) where state = 4 and file_left;

-- A read model: the checkpoints that the log tells of.
create table saved_checkpoints (
    attempt_id text not null,
    name text not null,
    job_id text not null,
    workspace_id text not null,
    step bigint not null,
    bytes bigint not null,
    sha256 text not null,
    best boolean not null,
    -- Dropped by the strategy: the file is gone on the box.
    removed boolean not null default false,
    position bigint not null,
    primary key (attempt_id, name)
);
create index saved_checkpoints_of_job on saved_checkpoints (job_id, position);
