"""The agent: carries out what the session's state machine orders, and feeds it what happens."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from protos.common.v1 import inventory_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import clock, dataset_check, files, session, sweep
from runner_agent import session_messages as m
from runner_agent.attempts import AttemptFolder, all_attempts, end_fact, with_unwritten_end
from runner_agent.box_watch import BoxWatch
from runner_agent.config import StateFolder
from runner_agent.exporter import Exporter
from runner_agent.facts import Fact
from runner_agent.fetching import Fetch, Fetching
from runner_agent.keepers import Keepers
from runner_agent.link import Link
from runner_agent.samples import Sampler
from runner_agent.sampling import Sampling
from runner_agent.shipper import Shipper
from runner_agent.single_call import SingleCall
from runner_agent.spool_limits import SpoolLimits
from runner_agent.uploader import Uploader
from runner_agent.view import view

LONGEST_WAIT_S = 1.0
INVENTORY_INTERVAL_S = 300.0
INVENTORY_TIMEOUT_S = 10.0
STATUS_INTERVAL_S = 0.25
SWEEP_INTERVAL_S = 0.02
# A process that has not died by then is stuck in a driver, say; it is looked at less often from then on.
SWEEP_PATIENCE = 500
SWEEP_SLOW_INTERVAL_S = 1.0
MOST_CHECKS = 2
# Where a scheduler of an earlier version names none; a negative number means never.
DEFAULT_STALL_MINUTES = 30

log = structlog.get_logger()


class Agent:
    """One runner's agent. `run` lasts until it is cancelled; the trainings go on without it."""

    def __init__(
        self,
        folder: StateFolder,
        state: m.State,
        jitter: Callable[[], float],
        make_link: Callable[[Callable[[m.Input], None]], Link],
        make_keepers: Callable[[Callable[[m.Input], None]], Keepers],
        shipper: Shipper,
        uploader: Uploader,
        exporter: Exporter,
        fetch: Fetch,
        sampler: Sampler,
        spool_limits: SpoolLimits,
        make_box_watch: Callable[[Callable[[m.Input], None]], BoxWatch],
        take_inventory: Callable[[], inventory_pb2.Inventory],
        server: str,
    ) -> None:
        self._folder = folder
        self._state = state
        self._jitter = jitter
        self._link = make_link(self.feed)
        self._keepers = make_keepers(self.feed)
        self._shipper = shipper
        self._uploader = uploader
        self._exporter = exporter
        self._fetching = Fetching(folder.attempts, fetch, self._fetched)
        self._spool_limits = spool_limits
        self._sampling = Sampling(sampler, self._running, self._attempt, self._keepers.lost)
        self._box_watch = make_box_watch(self.feed)
        self._take_inventory = take_inventory
        self._server = server
        self._inputs: deque[m.Input] = deque()
        self._feeding = False
        self._fed = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._sweeping: set[str] = set()
        self._checks = asyncio.Semaphore(MOST_CHECKS)
        self._checking: set[str] = set()

    async def run(self) -> None:
        """Take up what is on disk and in the keepers, then hold the session until cancelled."""
        try:
            async with self._group as group:
                # Keepers first: an attempt with a keeper is not swept.
                await self._keepers.scan(group)
                self._take_up()
                await self._box_watch.look()
                self._box_watch.start(group)
                group.create_task(self._keepers.run(group))
                group.create_task(self._shipper.run())
                group.create_task(self._uploader.run())
                group.create_task(self._exporter.run())
                group.create_task(self._sampling.run())
                group.create_task(self._refresh_inventory())
                group.create_task(self._write_status())
                await self._tick()
        finally:
            await self._link.close()

    def feed(self, item: m.Input) -> None:
        """Apply one input and carry out what follows; inputs that arise meanwhile come after it."""
        self._inputs.append(item)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._inputs:
                before = self._state
                next_item = self._inputs.popleft()
                self._state, actions = session.step(before, next_item, clock.boottime_ns(), self._jitter())
                self._note(before)
                for action in actions:
                    self._perform(action)
        finally:
            self._feeding = False
        self._fed.set()

    # ---- what the machine orders

    def _perform(self, action: m.Action) -> None:
        match action:
            case m.Dial(stream, hello):
                self._link.dial(stream, hello)
            case m.Hangup():
                self._link.hangup()
            case m.Send(message):
                self._link.send(message)
            case m.Adopt(assignment):
                self._adopt(assignment)
            case m.StartAttempt(pair, attempt_id, deadline_ns, anchor):
                self._keepers.start(pair, self._start_request(attempt_id), deadline_ns, anchor)
            case m.Renew(pair, deadline_ns, anchor):
                self._keepers.renew(pair, deadline_ns, anchor)
            case m.StopAttempt(pair, reason, message):
                log.info("stopping the training", pair=pair, reason=reason, message=message)
                self._keepers.stop(pair, reason, message)
            case m.RecordEnd(attempt_id, outcome, reason, message):
                self._record_end(attempt_id, outcome, reason, message)
            case m.ReadFacts(attempt_id, after):
                self.feed(m.FactsRead(attempt_id, self._facts(attempt_id, after)))
            case m.Sweep(attempt_id, after):
                if attempt_id not in self._sweeping:
                    self._sweeping.add(attempt_id)
                    self._group.create_task(self._sweep(attempt_id, after))
            case m.SaveSettled(attempt_id, sequence):
                with contextlib.suppress(OSError):
                    self._attempt(attempt_id).save_settled(sequence)
            case m.NoteRejected(attempt_id, sequence, reason):
                log.warning("the platform rejected a report", attempt=attempt_id, sequence=sequence, reason=reason)
            case m.LookAtDataset(check_id, dataset):
                if check_id not in self._checking:
                    self._checking.add(check_id)
                    self._group.create_task(self._look(check_id, dataset))
            case m.ShipTo(address):
                self._shipper.ship_to(address)

    def _attempt(self, attempt_id: str) -> AttemptFolder:
        return AttemptFolder(self._folder.attempts, attempt_id)

    def _fetched(self, assignment: session_pb2.Assignment, failed: str) -> None:
        """What held the attempt up is over."""
        if failed:
            log.warning("an attempt cannot start", attempt=assignment.attempt_id, reason=failed)
        self._adopt(assignment, held_up=False, failed=failed)

    def _adopt(self, assignment: session_pb2.Assignment, *, held_up: bool = True, failed: str = "") -> None:
        try:
            folder = self._attempt(assignment.attempt_id)
        except ValueError as error:
            log.warning("the platform named an attempt that cannot be", error=str(error))
            return
        window_ns = assignment.window_ms * 1_000_000 or self._state.timing.window_ns
        try:
            folder.make(assignment)
            if held_up and self._fetching.holds_up(folder, assignment, self._group):
                return
            if failed:
                boot_id = self._state.identity.boot_id
                folder.write_end(boot_id, clock.boottime_ns(), "FAILED", "END_REASON_INFRASTRUCTURE", failed)
            waiting = [one for one in all_attempts(self._folder.attempts) if not one.shipped()]
            others = [one.spool for one in waiting if one.attempt_id != folder.attempt_id]
            self._spool_limits.grant(folder.spool, others)
            attempt = folder.record(window_ns, again=True)
            self._shipper.hold(folder)
            self._uploader.hold(folder)
        except OSError as error:
            message = f"the attempt's folder cannot be written on the box: {error.strerror}"
            lost = m.Attempt(assignment.attempt_id, window_ns, m.Place.OVER, job_id=assignment.job_id)
            attempt = with_unwritten_end(lost, self._end("FAILED", "END_REASON_INFRASTRUCTURE", message))
        self.feed(m.Adopted(attempt))

    def _facts(self, attempt_id: str, after: int) -> tuple[Fact, ...]:
        """What lies on the disk, and behind it what the disk did not take and the keeper tells."""
        written = self._attempt(attempt_id).facts(after)
        return (*written, *self._keepers.unwritten(attempt_id, written[-1].sequence if written else after))

    def _start_request(self, attempt_id: str) -> dict[str, Any]:
        folder = self._attempt(attempt_id)
        assignment = folder.assignment()
        inventory, limits = self._state.inventory, assignment.spec.limits
        return {
            "attempt_id": attempt_id,
            "job_id": assignment.job_id,
            "directory": str(folder.path),
            "window_ms": assignment.window_ms,
            "simulated": inventory.simulated,
            "gpu_uuids": [gpu.uuid for gpu in inventory.gpus],
            "stall_ms": max(limits.stall_minutes or DEFAULT_STALL_MINUTES, 0) * 60_000,
            "stop_when_stalled": limits.stop_when_stalled,
        }

    def _end(self, outcome: str, reason: str, message: str) -> dict[str, Any]:
        return end_fact(self._state.identity.boot_id, clock.boottime_ns(), outcome, reason, message)

    def _record_end(self, attempt_id: str, outcome: str, reason: str, message: str) -> None:
        log.warning("an attempt ended before it started", attempt=attempt_id, reason=reason, message=message)
        folder = self._attempt(attempt_id)
        known = self._state.attempts[attempt_id].read
        try:
            folder.write_end(self._state.identity.boot_id, clock.boottime_ns(), outcome, reason, message)
            facts = folder.facts(known)
        except OSError:
            # A full disk does not keep the platform from being told.
            facts = (Fact(known + 1, self._end(outcome, reason, message)),)
        self._shipper.over(attempt_id)
        self.feed(m.FactsRead(attempt_id, facts))

    async def _sweep(self, attempt_id: str, after: int) -> None:
        """Wait for the keeper's end, kill what is left, see to it that the end is written down."""
        folder = self._attempt(attempt_id)
        looks = 0
        while True:
            phase = folder.phase()
            pair = str(phase.get("pair", ""))
            same_boot = phase.get("boot_id") == self._state.identity.boot_id
            if not same_boot or not (left := self._left(pair, phase)):
                break
            looks += 1
            if looks == SWEEP_PATIENCE:
                log.error("processes of the attempt do not end", attempt=attempt_id, pair=pair, pids=left)
            if looks >= SWEEP_PATIENCE and (processes := sweep.described(left)):
                self._box_watch.left_over(attempt_id, processes)
            await asyncio.sleep(SWEEP_INTERVAL_S if looks < SWEEP_PATIENCE else SWEEP_SLOW_INTERVAL_S)
        self._box_watch.left_over(attempt_id, "")
        started, told = folder.started(), False
        while started and not folder.has_ended():
            try:
                self._write_end(folder)
            except OSError as error:
                # What the keeper had set aside for this.
                if folder.give_up_reserve():
                    continue
                log.error("the end of the attempt cannot be written", attempt=attempt_id, error=error.strerror)
                if not told:
                    # The platform does not wait for the disk.
                    told = True
                    self._tell_end(folder, (*self._facts(attempt_id, after), *self._lost_end(folder)), started)
                await asyncio.sleep(SWEEP_SLOW_INTERVAL_S)
        folder.give_up_reserve()
        self._keepers.forget(attempt_id)
        self._sweeping.discard(attempt_id)
        if not told:
            self._tell_end(folder, folder.facts(after), started)

    def _tell_end(self, folder: AttemptFolder, facts: tuple[Fact, ...], started: bool) -> None:
        if started:
            self._shipper.over(folder.attempt_id)
        self.feed(m.FactsRead(folder.attempt_id, facts))
        self.feed(m.Swept(folder.attempt_id, started))

    def _write_end(self, folder: AttemptFolder) -> None:
        """What the keeper told and could not write; where it told no end, the one that its death is. Raises OSError."""
        folder.write_facts(self._keepers.unwritten(folder.attempt_id, 0))
        if not folder.has_ended():
            folder.write_lost_end(self._state.identity.boot_id, clock.boottime_ns())
            log.warning("the keeper of the attempt is gone", attempt=folder.attempt_id)

    def _lost_end(self, folder: AttemptFolder) -> tuple[Fact, ...]:
        """The end that the keeper's death is, unless it told one."""
        facts = self._facts(folder.attempt_id, 0)
        if any(fact.ended for fact in facts):
            return ()
        end = folder.lost_end(self._state.identity.boot_id, clock.boottime_ns())
        return (Fact(len(facts) + 1, end),)

    def _left(self, pair: str, phase: dict[str, Any]) -> list[int]:
        """The keeper, while it lives; then what lives of its trainer, which is killed."""
        keeper_pid = int(phase.get("keeper_pid", 0))
        if sweep.keeper_alive(keeper_pid, pair):
            return [keeper_pid]
        left = sweep.leftovers(pair, int(phase.get("trainer_pid", 0))) if pair else []
        sweep.kill(left)
        return left

    async def _look(self, check_id: str, dataset: training_pb2.Dataset) -> None:
        try:
            async with self._checks:
                report = await dataset_check.look(dataset, self._folder.root)
            self.feed(m.DatasetLooked(check_id, report))
        finally:
            self._checking.discard(check_id)

    # ---- what happens by itself

    def _running(self) -> dict[str, str]:
        """Attempts that a keeper holds, each with its pair."""
        return {one.attempt_id: one.pair for one in self._state.attempts.values() if one.place is m.Place.HELD}

    def _take_up(self) -> None:
        """Attempts of earlier agents: told again what is not settled, shipped what is not shipped."""
        for folder in all_attempts(self._folder.attempts):
            if folder.started() and not folder.shipped():
                self._shipper.hold(folder)
                if folder.has_ended():
                    self._shipper.over(folder.attempt_id)
            self._uploader.take_up(folder)
            if not folder.started() or folder.told():
                continue
            attempt = folder.record(self._state.timing.window_ns)
            held = [pair for pair in self._state.pairs.values() if pair.attempt_id == folder.attempt_id]
            if held:
                attempt = replace(attempt, place=m.Place.HELD, pair=held[0].pair)
            self.feed(m.Adopted(attempt))

    async def _tick(self) -> None:
        while True:
            self._fed.clear()
            wait_s = (session.wake_at_ns(self._state) - clock.boottime_ns()) / 1e9
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    # CLOCK_BOOTTIME goes on while the box sleeps, the loop's clock does not.
                    async with asyncio.timeout(min(wait_s, LONGEST_WAIT_S)):
                        await self._fed.wait()
            if clock.boottime_ns() >= session.wake_at_ns(self._state):
                self.feed(m.Tick())
                await asyncio.sleep(0)

    async def _refresh_inventory(self) -> None:
        calls = SingleCall()
        while True:
            await asyncio.sleep(INVENTORY_INTERVAL_S)
            try:
                self.feed(m.InventoryTaken(await calls.run(self._take_inventory, INVENTORY_TIMEOUT_S)))
            except Exception as error:
                log.error("the inventory cannot be taken", error=str(error))

    async def _write_status(self) -> None:
        last = ""
        while True:
            content = json.dumps(view(self._state, self._server, self._shipper.backlog_bytes()))
            if content != last:
                with contextlib.suppress(OSError):
                    files.replace(self._folder.status, content.encode(), durable=False)
                    last = content
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _note(self, before: m.State) -> None:
        """Log what changed on the link."""
        after = self._state
        if after.link is m.LinkPhase.LIVE and before.link is not m.LinkPhase.LIVE and after.welcome is not None:
            log.info("connected", runner=after.welcome.runner_name, epoch=after.welcome.epoch, server=self._server)
        if after.error and (after.error != before.error or before.link is m.LinkPhase.LIVE):
            log.warning("not connected", reason=after.error, refused=after.refused)
