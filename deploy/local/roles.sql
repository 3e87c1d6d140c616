-- What the services need before their own migrations: run by a superuser, in the platform's database, as often as wanted.
-- The passwords come as settings `tether.password_<service>` of the session, so that no statement spells them out.

DO $$
DECLARE
    service text;
    role_name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tether_service') THEN
        CREATE ROLE tether_service NOLOGIN;
    END IF;
    FOREACH service IN ARRAY ARRAY['eventlog', 'scheduler', 'quota', 'metrics'] LOOP
        role_name := 'tether_' || service;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role_name);
        END IF;
        EXECUTE format('ALTER ROLE %I PASSWORD %L', role_name, current_setting('tether.password_' || service));
        EXECUTE format('GRANT tether_service TO %I', role_name);
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', service, role_name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO tether_service', current_database());
END
$$;
