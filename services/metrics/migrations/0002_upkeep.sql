-- Limits that are remembered, refusals that are counted, chunks that are merged, and figures that are removed in time.

alter table spools
    -- The limit of points per second, as it stands after the last record; null: nothing was counted yet.
    add column room_points double precision,
    add column room_at_ms bigint,
    -- Points and lines up to this sequence were removed, because the training is long over; and when.
    add column removed_sequence bigint not null default 0,
    add column removed_at timestamptz;

-- What was refused of a spool, by kind; a kind is a reason without its numbers.
create table refusals (
    spool_id bigint not null references spools,
    kind text not null,
    -- The last one in full.
    reason text not null,
    refused bigint not null,
    primary key (spool_id, kind)
);

-- A merged chunk: of which batches it was made (services/metrics/merging.py); null: one batch, that of `sequence`.
alter table chunks add column parts bytea;
alter table chunks alter column parts set storage external;

-- Stretches of spools whose small chunks are to be merged, in records; for the spool `log` in lines.
create table merges (
    merge_id bigint generated always as identity primary key,
    spool_id bigint not null,
    after bigint not null,
    up_to bigint not null
);
insert into merges (spool_id, after, up_to)
select spool_id, 0, case spool when 'log' then lines else sequence end from spools;

-- When the job ended, by the log; null: it goes on. The table is filled anew, because this was not kept before.
alter table jobs add column over_at timestamptz;
create index jobs_over on jobs (over_at) where over_at is not null;
delete from checkpoints;
