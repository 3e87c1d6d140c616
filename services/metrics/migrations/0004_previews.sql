-- Previews of evaluations, and what was trained on what: what advice follows from.

-- A tether.metrics.v1.Evaluation with nothing but its predictions; null: it has none.
alter table evaluations add column predictions bytea;

-- A training tells each image once; of one number the last counts.
create table preview_images (
    spool_id bigint not null,
    sequence bigint not null,
    number int not null,
    -- tether.metrics.v1.PreviewImage.
    image bytea not null,
    primary key (spool_id, sequence)
);
-- JPEG does not become smaller.
alter table preview_images alter column image set storage external;

-- The last one of a spool counts.
create table facts (
    spool_id bigint not null,
    sequence bigint not null,
    -- tether.metrics.v1.TrainingFacts.
    facts bytea not null,
    primary key (spool_id, sequence)
);

-- Whether advanced evaluation was asked for. The table is filled anew, because this was not kept before.
alter table jobs add column advanced boolean not null default false;
delete from checkpoints where name = 'attempts';
