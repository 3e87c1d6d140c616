-- Compute minutes from an export of the log, in integers: milliseconds × millionths of a minute a minute, as HUGEINT.
-- The rules are those of docs/how-to/minutes.md. Each event type is a view of its own; `known_ms` is the moment
-- up to which a training that still runs is counted.

create macro in_calendar(at_ms) as greatest(least(coalesce(at_ms, 0), 253402300800000), 0);

-- Minutes × 1000, rounded half up: the one rounding there is.
create macro to_milliminutes(ms_micros) as
    ((ms_micros + 30000000) - (((ms_micros + 30000000) % 60000000) + 60000000) % 60000000) // 60000000;

create view attempt_ends as
select attempt_id, position, false as corrected, "interval" as charged, 'END_REASON_UNSPECIFIED' as reason
from "JobFinished" where attempt_id <> ''
union all
select attempt_id, position, false, "interval", reason from "JobFailed" where attempt_id <> ''
union all
select attempt_id, position, false, "interval", reason from "JobKilled" where attempt_id <> ''
union all
select attempt_id, position, true, "interval",
       coalesce(failed.reason, killed.reason, 'END_REASON_UNSPECIFIED')
from "JobOutcomeCorrected" where attempt_id <> '';

create view attempt_links as
select attempt_id, position, in_calendar(deadline_at_ms) as deadline_at_ms, last_contact_at_ms, null as cut_off_ms
from "JobUnreachable" where attempt_id <> ''
union all
select attempt_id, position, 0, null, cut_off_ms from "JobReachable" where attempt_id <> '';

-- One row an attempt: which of its facts hold. The first assignment, the first start, the last word about the link;
-- the first outcome, until the box tells the truth: then the last correction.
create view attempts as
with assigned as (
    select attempt_id, arg_min(struct_pack(position, workspace_id, job_id := stream_id, runner_id, runner_name,
        simulated, rate_micros := greatest(rate_micros, 0)), position) as one
    from "JobAssigned" where attempt_id <> '' group by attempt_id
), started as (
    select attempt_id, arg_min(struct_pack(position, at_ms := in_calendar(started_at_ms)), position) as one
    from "JobStarted" where attempt_id <> '' group by attempt_id
), link as (
    select attempt_id, arg_max(deadline_at_ms, position) as deadline_at_ms from attempt_links group by attempt_id
), ended as (
    select attempt_id, arg_max(struct_pack(position, corrected, charged, reason),
        case when corrected then position else -position end + case when corrected then 1::hugeint << 64 else 0 end
    ) as one
    from attempt_ends group by attempt_id
), streams as (
    select attempt_id, arg_min(workspace_id, position) as workspace_id, arg_min(job_id, position) as job_id
    from (
        select attempt_id, position, workspace_id, stream_id as job_id from "JobAssigned"
        union all select attempt_id, position, workspace_id, stream_id from "JobStarted"
        union all select attempt_id, position, workspace_id, stream_id from "JobUnreachable"
        union all select attempt_id, position, workspace_id, stream_id from "JobReachable"
        union all select attempt_id, position, workspace_id, stream_id from "JobFinished"
        union all select attempt_id, position, workspace_id, stream_id from "JobFailed"
        union all select attempt_id, position, workspace_id, stream_id from "JobKilled"
        union all select attempt_id, position, workspace_id, stream_id from "JobOutcomeCorrected"
    ) facts where attempt_id <> '' group by attempt_id
)
select streams.attempt_id, streams.workspace_id, streams.job_id,
       assigned.one.runner_id as runner_id, assigned.one.runner_name as runner_name,
       coalesce(assigned.one.simulated, false) as simulated, coalesce(assigned.one.rate_micros, 0) as rate_micros,
       assigned.one.position as assigned_position, started.one.position as started_position,
       ended.one.position as ended_position, coalesce(ended.one.corrected, false) as corrected,
       coalesce(ended.one.charged.presumed, false) as presumed, ended.one.reason as reason,
       case when ended.one is not null then in_calendar(ended.one.charged.started_at_ms)
            else coalesce(started.one.at_ms, 0) end as started_at_ms,
       -- Where it ended; null while it runs.
       case when ended.one is not null then in_calendar(ended.one.charged.charged_until_ms) end as charged_until_ms,
       case when ended.one is not null then in_calendar(ended.one.charged.ended_at_ms) end as ended_at_ms,
       -- A running attempt that is cut off ends itself then; zero: it is not cut off.
       case when ended.one is null then coalesce(link.deadline_at_ms, 0) else 0 end as deadline_at_ms
from streams
left join assigned using (attempt_id) left join started using (attempt_id)
left join link using (attempt_id) left join ended using (attempt_id);

-- What each attempt costs as known at `known_ms`.
create macro charges_at(known_ms) as table
select *, greatest(until_ms - started_at_ms, 0)::hugeint * rate_micros * (started_at_ms > 0)::int as ms_micros
from (
    select *, case
        when charged_until_ms is not null then charged_until_ms
        when deadline_at_ms > 0 then greatest(least(in_calendar(known_ms), deadline_at_ms), started_at_ms)
        else greatest(in_calendar(known_ms), started_at_ms) end as until_ms
    from attempts
) known;

-- The same, cut at the starts of months or days (UTC); the pieces add up to the whole.
create macro charges_cut_at(known_ms, unit) as table
select * exclude (part, first_ms, last_ms), part,
       (least(until_ms, epoch_ms(part + to_months((unit = 'month')::int) + to_days((unit = 'day')::int)))
        - greatest(started_at_ms, epoch_ms(part)))::hugeint * rate_micros as part_ms_micros
from (
    select *, unnest(case unit
        when 'month' then generate_series(date_trunc('month', make_timestamp_ms(first_ms)), make_timestamp_ms(last_ms),
                                          to_months(1))
        else generate_series(date_trunc('day', make_timestamp_ms(first_ms)), make_timestamp_ms(last_ms), to_days(1))
        end) as part
    from (select *, started_at_ms as first_ms, until_ms - 1 as last_ms from charges_at(known_ms) where ms_micros > 0) c
) cut;

-- Per workspace and month: what trainings cost, what people adjusted, and the sum in minutes.
create macro minutes_at(known_ms) as table
select workspace_id, period, sum(charged)::hugeint as charged_ms_micros, sum(adjusted)::hugeint as adjusted_ms_micros,
       to_milliminutes(sum(charged + adjusted)::hugeint) as milliminutes,
       to_milliminutes(sum(charged + adjusted)::hugeint) / 1000 as minutes
from (
    select workspace_id, strftime(part, '%Y-%m') as period, part_ms_micros as charged, 0::hugeint as adjusted
    from charges_cut_at(known_ms, 'month')
    union all
    select workspace_id, period, 0, milliminutes::hugeint * 60000000 from "MinutesAdjusted"
) pieces group by workspace_id, period;

-- While its box was cut off, as far as it is charged: from the last contact to the next sign, or to the end.
create macro cut_off_at(known_ms) as table
select attempt_id, workspace_id, job_id, runner_id, runner_name, presumed, from_ms, to_ms,
       (to_ms - from_ms)::hugeint * rate_micros as ms_micros
from (
    select charge.*, greatest(lapse.from_ms, charge.started_at_ms) as from_ms,
           least(coalesce(lapse.to_ms, charge.until_ms), charge.until_ms) as to_ms
    from charges_at(known_ms) charge
    join (
        select attempt_id, in_calendar(last_contact_at_ms) as from_ms,
               in_calendar(lead(coalesce(last_contact_at_ms, 0)) over later) as next_ms,
               case when lead(position) over later is null then null
                    when lead(last_contact_at_ms) over later is not null then lead(last_contact_at_ms) over later
                    else last_contact_at_ms + lead(cut_off_ms) over later end as to_ms, cut_off_ms
        from attempt_links window later as (partition by attempt_id order by position)
    ) lapse on lapse.attempt_id = charge.attempt_id and lapse.cut_off_ms is null and charge.started_at_ms > 0
) clipped where to_ms > from_ms;

-- The newest event that the export holds: what runs then is counted up to there.
create view known as select coalesce(max(epoch_ms(recorded_at)), 0) as known_ms from events;

create view charges as select * from charges_at((select known_ms from known));
create view charges_by_month as select * from charges_cut_at((select known_ms from known), 'month');
create view charges_by_day as select * from charges_cut_at((select known_ms from known), 'day');
create view minutes as select * from minutes_at((select known_ms from known));
create view cut_off as select * from cut_off_at((select known_ms from known));
