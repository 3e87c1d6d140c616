create sequence webhook_revisions;

-- One webhook a workspace. Not granted to other services: the secret has to be there as it is, because it signs.
create table webhooks (
    workspace_id text primary key,
    url text not null,
    -- tether.eventlog.v1.WebhookKind; empty: all.
    kinds int[] not null,
    secret text not null,
    -- Everything up to here was delivered, or was not asked for.
    delivered_position bigint not null,
    -- New with every change that a person makes: what was under way then moves nothing any more.
    revision bigint not null default nextval('webhook_revisions'),
    failures_in_a_row int not null default 0,
    last_failure text not null default '',
    next_try_at timestamptz
);

-- The few events that webhooks tell; the list is that of webhook_message.py.
create index webhook_events on events (workspace_id, position)
    where type in ('JobFinished', 'JobFailed', 'JobKilled', 'JobOutcomeCorrected', 'JobUnreachable', 'JobReachable',
                   'QuotaThresholdReached', 'QuotaExhausted', 'QuotaReplenished');

-- A new partition no longer waits for those who read, and nobody for it: a backup of hours holds a lock on the table,
-- which `create table … partition of` would wait for with the appenders behind it. Attaching needs a weaker one.
create or replace function ensure_partition(wanted bigint) returns void
    language plpgsql security definer set search_path = eventlog, pg_temp as $$
declare
    number bigint := wanted / 10000000;
    name text := 'events_' || lpad(number::text, 6, '0');
begin
    if to_regclass('eventlog.' || name) is null then
        perform pg_advisory_xact_lock(7301001);
        if to_regclass('eventlog.' || name) is not null then
            return; -- another process made it meanwhile
        end if;
        execute format('create table %I (like events including all)', name);
        execute format('create trigger append_only before update or delete or truncate on %I
                        for each statement execute function refuse_change()', name);
        execute format('alter table events attach partition %I for values from (%s) to (%s)',
                       name, number * 10000000, (number + 1) * 10000000);
    end if;
end $$;

-- Answers that older versions stored for repeated requests hold names of tokens, which are to be erasable.
delete from requests where position(convert_to('tok_', 'UTF8') in response) > 0;
