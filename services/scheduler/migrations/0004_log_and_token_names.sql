-- The log that the tables which are truth of their own (replicas, contacts) were written beside.
create table log (log_id uuid not null);

-- Names of tokens: the only place where they are, so that one can be erased. An empty name was erased.
create table token_names (
    token_id text primary key,
    workspace_id text not null,
    name text not null
);

-- Once, names that older versions wrote into events are taken over from there; see names.py.
create table token_names_adopted (position bigint not null);

-- They leave the read model, in which they could not be erased.
update workspaces set state = jsonb_set(
    state::jsonb,
    '{tokens}',
    (select coalesce(jsonb_object_agg(key, value - 'name'), '{}'::jsonb) from jsonb_each(state::jsonb -> 'tokens'))
)::text;
