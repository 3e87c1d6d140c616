"""What happens when a rule is broken on purpose: the laws must see each of these."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from protos.events.v1.runner_pb2 import RunnerStatus
from runner_agent import keeper, session, session_reports
from runner_agent import keeper_messages as km
from runner_agent.session_messages import Place, State
from services.scheduler.domain import attempt, placement, stream
from services.scheduler.domain import session as session_domain
from services.scheduler.domain.runner import Runner
from tests.simulation import box
from tests.simulation import keeper as simulated_keeper
from tests.simulation.folder import Folder


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    # What is replaced: an object, the name on it, and what takes its place.
    changes: tuple[tuple[Any, str, Any], ...]
    # A seed that saw it once: looked at first, because some take thousands of schedules to come up.
    seen_by: int = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for of, name, instead in self.changes:
                stack.enter_context(patch.object(of, name, instead))
            yield


_contact = session._contact
_welcomed = session._welcomed
_hello = session._hello
_adopted = Folder.record
_swept = session._swept
_keeper_step = keeper.step
_stream_step = stream.step
_connect = session_domain.connect
_disconnect = session_domain.disconnect
_suspensions = session_domain.box_suspensions
_report = attempt.report
_lost = attempt.lost


def _counted_from_receipt(state: Any, sent_ns: int, platform_at_ms: int, now_ns: int) -> Any:
    return _contact(state, now_ns, platform_at_ms, now_ns)


def _any_epoch(runner: Any, job: Any, epoch: int, *more: Any) -> Any:
    return _disconnect(runner, job, runner.epoch, *more)


def _clock_alone(runner: Runner) -> bool:
    return runner.status == RunnerStatus.RUNNER_STATUS_ONLINE


def _always_leased(state: Any, item: Any, now_ms: int) -> Any:
    if isinstance(item, stream.Heard | stream.Connected):
        item = replace(item, leased=True)
    return _stream_step(state, item, now_ms)


def _key_never_asked_again(state: Any, item: Any, now_ms: int) -> Any:
    return (state, []) if isinstance(item, stream.KeyRefused) else _stream_step(state, item, now_ms)


def _overtaken(state: Any, item: Any, now_ms: int) -> Any:
    return _stream_step(state, replace(item, newest=True) if isinstance(item, stream.Connected) else item, now_ms)


def _goes_on_though_ended(state: Any, item: Any, now_ms: int) -> Any:
    return (state, []) if isinstance(item, stream.Ended) else _stream_step(state, item, now_ms)


def _stop_taken_back(state: Any, item: Any, now_ns: int) -> Any:
    if isinstance(item, km.Renew) and state.stop_began_ns is not None and state.phase == keeper.STOPPING:
        state = replace(state, stop_began_ns=None, kill_at_ns=None, phase=keeper.RUNNING)
    return _keeper_step(state, item, now_ns)


def _without(*action: type[Any]) -> Callable[..., Any]:
    def step(state: Any, item: Any, now_ns: int) -> Any:
        state, actions = _keeper_step(state, item, now_ns)
        return state, [one for one in actions if not isinstance(one, action)]

    return step


def _no_deadline(state: Any, item: Any, now_ns: int) -> Any:
    if state.attempt is not None and state.stop_began_ns is None:
        state = replace(state, deadline_ns=1 << 62)
    return _keeper_step(state, item, now_ns)


def _hello_without_attempts(state: Any) -> Any:
    hello = _hello(state)
    del hello.live_attempts[:]
    return hello


def _not_told_again(state: Any, *more: Any) -> Any:
    after, actions = _welcomed(state, *more)
    return replace(after, attempts=state.attempts), actions


def _started_again(folder: Folder, window_ns: int, *, again: bool = False) -> Any:
    return replace(_adopted(folder, window_ns, again=again), place=Place.WAITING, facts=())


def _swept_is_new(state: Any, attempt_id: str, started: bool) -> Any:
    return _swept(state, attempt_id, False)


def _repeats_count(job: Any, *more: Any) -> Any:
    return _report(replace(job, settled_report=0), *more)


def _any_installation(runner: Any, job: Any, hello: Any, *more: Any) -> Any:
    return _connect(replace(runner, installation_id=""), job, hello, *more)


def _told_late_is_late(moment: Any, earliest_ms: int, latest_ms: int) -> int:
    return latest_ms


def _charged_until_now(job: Any, runner: Any, now_ms: int) -> Any:
    job_events: Any
    job_events, runner_events = _lost(job, runner, now_ms)
    for event in job_events:
        if event.interval.started_at_ms:
            event.interval.charged_until_ms = now_ms
    return job_events, runner_events


def _this_boot(now: Any, state: Any, attempt: Any, fact: Any) -> Any:
    return now


def _old_sessions_suspend(runner: Any, epoch: int, *more: Any) -> Any:
    return _suspensions(runner, runner.epoch, *more)


def _trainer_outlives(self: Any) -> None:
    self.end()


MUTATIONS = [
    Mutation("the deadline counts from the acknowledgement's arrival", ((session, "_contact", _counted_from_receipt),)),
    Mutation("the keeper does not look at its deadline", ((keeper, "step", _no_deadline),)),
    Mutation("a renewal takes a stop back", ((keeper, "step", _stop_taken_back),)),
    Mutation("no SIGKILL after the grace", ((keeper, "step", _without(km.KillAll)),)),
    Mutation("no outcome is written", ((keeper, "step", _without(km.AppendFact, km.WriteOutcome)),)),
    Mutation("no stamps", ((keeper, "step", _without(km.Stamp)),), seen_by=639),
    Mutation(
        "a trainer outlives its keeper",
        ((simulated_keeper.Keeper, "kill", _trainer_outlives), (box.Box, "lives", lambda *_: False)),
    ),
    Mutation("what is left of an attempt is not swept", ((box.Box, "lives", lambda *_: False),), seen_by=9),
    Mutation("a known attempt is started again", ((Folder, "started", property(lambda _: False)),)),
    Mutation(
        "Hello hides living attempts",
        ((session, "_hello", _hello_without_attempts), (Runner, "placeable", property(_clock_alone))),
        seen_by=128,
    ),
    Mutation("the runner is freed by the clock alone", ((Runner, "placeable", property(_clock_alone)),), seen_by=128),
    Mutation("a training is called lost at its deadline", ((attempt, "lost_after_ms", lambda window_ms: window_ms),)),
    Mutation("a lost training is charged until it is called lost", ((attempt, "lost", _charged_until_now),)),
    Mutation("any session's silence ends the newest", ((session_domain, "disconnect", _any_epoch),), seen_by=2926),
    Mutation(
        "an older session's suspensions count",
        ((session_domain, "box_suspensions", _old_sessions_suspend),),
        seen_by=1305,
    ),
    Mutation("heartbeats are acknowledged without a lease", ((stream, "step", _always_leased),)),
    Mutation("a session whose Hello was overtaken stays open", ((stream, "step", _overtaken),), seen_by=1321),
    Mutation(
        "a session goes on though the log calls it over", ((stream, "step", _goes_on_though_ended),), seen_by=8286
    ),
    Mutation("a withdrawn key goes on", ((stream, "step", _key_never_asked_again),)),
    Mutation("a copied key opens a session", ((session_domain, "connect", _any_installation),)),
    Mutation("reports are not sent again after a reconnect", ((session, "_welcomed", _not_told_again),)),
    Mutation("any runner takes a resumed job", ((placement, "only_runner_id", lambda *_: ""),), seen_by=47),
    Mutation("repeated reports count again", ((attempt, "report", _repeats_count),)),
    Mutation("what is told late counts as late", ((attempt, "moment_ms", _told_late_is_late),)),
    Mutation("facts of an earlier boot count by this boot's clock", ((session_reports, "_anchor_of", _this_boot),)),
    Mutation(
        "platform time is taken as it comes",
        (
            (session, "_better_anchor", lambda _old, new: new),
            (State, "knows_the_time", property(lambda state: state.anchor is not None)),
        ),
    ),
]
