-- Aggregates as they were at certain versions, so that one as of the past is not folded from its first event. A cache:
-- deleting rows changes no answer.
create table snapshots (
    kind text not null,
    id text not null,
    -- Of the last event in it; `version` is that event's in the aggregate's stream.
    position bigint not null,
    version bigint not null,
    -- Of the log and of the code that folded it; one with others is ignored.
    log_id uuid not null,
    fingerprint bytea not null,
    state text not null,
    primary key (kind, id, position)
);
