-- The log. Append-only: the grants give no service more than SELECT and INSERT, and the trigger stops the owner too.
create table events (
    position bigint not null primary key,
    event_id uuid not null,
    workspace_id text not null,
    stream_kind text not null,
    stream_id text not null,
    stream_version bigint not null,
    type text not null,
    schema_version int not null,
    payload bytea not null,
    recorded_at timestamptz not null,
    actor text not null,
    correlation_id text not null,
    causation_id text not null
) partition by range (position);

-- One stream's history, for loading what no read model holds.
create index events_of_stream on events (stream_id, stream_version);

-- The few events that say who may enter; every process reads them at its start.
create index credential_events on events (position)
    where type in ('TokenCreated', 'TokenRevoked', 'RunnerRegistered', 'RunnerSecretKeyRegenerated', 'RunnerUninstalled');

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the event log is append-only: % on % is refused', tg_op, tg_table_name
        using hint = 'append an event that corrects the earlier one';
end $$;

create trigger append_only before update or delete or truncate on events
    for each statement execute function refuse_change();

-- Partitions of ten million positions. Called by appenders well before a partition is full.
create function ensure_partition(wanted bigint) returns void
    language plpgsql security definer set search_path = eventlog, pg_temp as $$
declare
    number bigint := wanted / 10000000;
    name text := 'events_' || lpad(number::text, 6, '0');
begin
    if to_regclass('eventlog.' || name) is null then
        perform pg_advisory_xact_lock(7301001);
        execute format('create table if not exists %I partition of events for values from (%s) to (%s)',
                       name, number * 10000000, (number + 1) * 10000000);
        execute format('create trigger append_only before update or delete or truncate on %I
                        for each statement execute function refuse_change()', name);
    end if;
exception when duplicate_object then
    null; -- another process made it
end $$;

select ensure_partition(1);

-- The version of each stream, against which an append's expectation is compared.
create table streams (
    kind text not null,
    id text not null,
    version bigint not null,
    primary key (kind, id)
) with (fillfactor = 50);

-- First answers, given again when a request is repeated.
create table requests (
    subject text not null,
    request_id text not null,
    request_hash bytea not null,
    response bytea not null,
    recorded_at timestamptz not null default now(),
    primary key (subject, request_id)
);

-- Names this log; changed at every restore or promotion.
create table log (log_id uuid not null default gen_random_uuid());
insert into log default values;

grant usage on schema eventlog to tether_service;
grant select, insert on events to tether_service;
grant select, insert, update on streams to tether_service;
grant select, insert on requests to tether_service;
grant select on log to tether_service;
