"""Random schedules: people press buttons, and everything fails, again and again; then everything comes back."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from protos.events.v1 import job_pb2, runner_pb2
from protos.events.v1.runner_pb2 import SuspensionOwner
from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1.job_pb2 import ResumeJobRequest
from protos.training.v1.training_pb2 import EndReason, Limits, TrainingSpec
from services.scheduler.domain import attempt as attempts
from services.scheduler.domain import checkpoints
from services.scheduler.domain import runner as runners
from services.scheduler.domain.job import HELD
from services.scheduler.submission import resumed
from tests.simulation.agent import INVENTORY
from tests.simulation.box import Box, dial
from tests.simulation.laws import LawBroken, Laws
from tests.simulation.platform import Platform
from tests.simulation.world import MS, SECOND, Link, Stream, World, mend, when

STEPS = 100
# How long it takes until everything must have settled once nothing fails any more.
SETTLE_S = 600
# People resume jobs in one schedule of so many, drawn by chances of their own: the others stay as they were.
RESUMING, OF = 7, 10
_ADMIN = SuspensionOwner.SUSPENSION_OWNER_ADMIN


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    seen: Counter[str]
    # The law that was broken, and the story up to it; empty where all held.
    broken: str = ""
    story: tuple[str, ...] = ()


class Stranger:
    """A box with a copied key: another installation."""

    def received(self, stream: Stream, message: object) -> None:
        if isinstance(message, pb.ConnectResponse) and message.HasField("welcome"):
            raise LawBroken("a copied key opened a session")

    def broken(self, stream: Stream, refused: bool) -> None:
        pass


class Schedule:
    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        window_ms = world.random.choice([20_000, 40_000, 90_000])
        self.platform = Platform(world, window_ms, replicas=2)
        self.laws = Laws(world, self.platform)
        self.platform.log.on_append.insert(0, self.laws.appended)
        self.platform.on_acknowledge = self.laws.acknowledged
        self.jobs = 0
        self.resumptions = Random(seed) if seed % OF == RESUMING else None
        for number in range(1 + world.chance(0.25)):
            runner_id = f"rn_{number + 1}"
            self.platform.keys[runner_id] = 0
            self.platform.log.append("runner", runner_id, [runner_pb2.RunnerRegistered(name=f"box-{number + 1}")])
            box = Box(world, self.platform, runner_id, self.laws)
            if world.chance(0.3):
                box.rate = world.random.choice([0.99, 1.01])
            self.laws.boxes.append(box)
        # Calmer and wilder schedules, so that long trainings are seen too.
        self.pace = world.random.choice([0.4, 1, 3])

    def run(self) -> None:
        world = self.world
        world.run_until(8 * SECOND)
        self.submit(world.random.choice(self.laws.boxes))
        names = list(OPERATIONS)
        weights = [OPERATIONS[name][0] for name in names]
        for _ in range(STEPS):
            world.run_until(world.now + int(world.random.expovariate(1 / self.pace) * SECOND))
            name = world.random.choices(names, weights)[0]
            box = world.random.choice(self.laws.boxes)
            world.note(name)
            OPERATIONS[name][1](self, box)
            self.resume()
            self.laws.check()
        self.come_back()
        for _ in range(SETTLE_S // 10):
            world.run_until(world.now + 10 * SECOND)
            self.laws.check()
            if self.laws.quiet():
                break
        self.laws.reconciled()

    def come_back(self) -> None:
        self.world.note("everything comes back")
        self.platform.log.away = False
        self.world.calm = True
        for replica in self.platform.replicas:
            replica.crash_in, replica.lag = -1, 0
            replica.thaw()
        for box in self.laws.boxes:
            if box.agent is not None:
                box.agent.crash_in = -1
            for one in box.keepers:
                one.crash_in = -1
            box.link.duplicates = 0
            self.heal(box)
            self.free_disk(box)
            self.unstick(box)
            box.thaw()
            if not box.up:
                box.boot()
            box.reauth()
            box.suspend(None)
            self.lift_admin(box)
            for trainer in box.trainers:
                box.after(self.world.uniform(1, 20) * SECOND, trainer.finish)

    # ---- people

    def submit(self, box: Box) -> None:
        self.jobs += 1
        wanted = box.runner_id if self.world.chance(0.7) else ""
        queue_ms = self.world.now_ms + 86_400_000
        retries = self.world.random.choice([0, 0, 0, 1, 2])
        submitted = job_pb2.JobSubmitted(
            name="job",
            spec=TrainingSpec(limits=Limits(retries=retries)),
            runner_id=wanted,
            queued=True,
            queue_expires_at_ms=queue_ms,
        )
        self.platform.log.append("job", f"jb_{self.jobs}", [submitted], "token:1")

    def resume(self) -> None:
        """Perhaps go on from a job that is over, on whichever runner can read its checkpoint."""
        if self.resumptions is None or self.resumptions.random() > 0.15:
            return
        left = [job for job in self.platform.log.jobs.values() if job.over and job.checkpoints]
        if left:
            self.jobs += 1
            job = self.resumptions.choice(left)
            found = checkpoints.reference(job.job_id, checkpoints.located(job, [])[-1])
            event = resumed(ResumeJobRequest(queue=True), job, found, None, self.world.now_ms)
            self.world.note("a job was resumed")
            self.platform.log.append("job", f"jb_{self.jobs}", [event], "token:1")

    def stop(self, box: Box) -> None:
        waiting = list(self.platform.log.open_jobs.values())
        if waiting:
            held = [job for job in waiting if job.state in HELD]
            job = self.world.random.choice(held if held and self.world.chance(0.6) else waiting)
            events = attempts.stop(job, EndReason.END_REASON_STOPPED_BY_PERSON, "stopped")
            self.platform.log.append("job", job.job_id, events, "token:1")

    def suspend_by_owner(self, box: Box) -> None:
        if box.up:
            box.do(lambda: box.suspend("maintenance"))

    def resume_by_owner(self, box: Box) -> None:
        if box.up:
            box.do(lambda: box.suspend(None))

    def suspend_by_admin(self, box: Box) -> None:
        runner = self.platform.log.runners[box.runner_id]
        events = runners.suspend(runner, _ADMIN, "admin", 0, self.world.now_ms)
        self.platform.log.append("runner", box.runner_id, events)

    def lift_admin(self, box: Box) -> None:
        runner = self.platform.log.runners[box.runner_id]
        self.platform.log.append("runner", box.runner_id, runners.resume(runner, _ADMIN, self.world.now_ms))

    def regenerate_key(self, box: Box) -> None:
        overlap = self.world.random.choice([0, 0, 30 * SECOND])
        self.platform.regenerate(box.runner_id, overlap)
        until_ms = self.world.now_ms + overlap // MS if overlap else 0
        event = runner_pb2.RunnerSecretKeyRegenerated(old_key_valid_until_ms=until_ms)
        self.platform.log.append("runner", box.runner_id, [event], "token:1")
        if self.world.chance(0.8):
            box.world.after(self.world.uniform(1, 60) * SECOND, when(lambda: box.up, lambda: box.do(box.reauth)))

    def copy_key(self, box: Box) -> None:
        hello = pb.Hello(installation_id="stranger", inventory=INVENTORY, boot_id="b")
        key = self.platform.keys[box.runner_id]
        if self.platform.log.runners[box.runner_id].installation_id:
            dial(self.world, self.platform, Link(), Stranger(), box.runner_id, key, hello)

    # ---- the network

    def partition(self, box: Box) -> None:
        box.link.up.cut = box.link.down.cut = True
        self._heal_later(box)

    def cut_up(self, box: Box) -> None:
        box.link.up.cut = True
        self._heal_later(box)

    def cut_down(self, box: Box) -> None:
        box.link.down.cut = True
        self._heal_later(box)

    def _heal_later(self, box: Box) -> None:
        longest = self.world.random.choice([3, 20, 60, 200])
        self.world.after(self.world.uniform(0.2, longest) * SECOND, lambda: self.heal(box))

    def heal(self, box: Box) -> None:
        mend(box.link.up)
        mend(box.link.down)

    def slow_link(self, box: Box) -> None:
        box.link.up.delay = box.link.down.delay = self.world.uniform(1, 400) * MS

    def repeat_messages(self, box: Box) -> None:
        box.link.duplicates = self.world.random.choice([0, 0.1, 0.5])

    def reset_connection(self, box: Box) -> None:
        if box.agent is not None and box.agent.connection is not None and box.agent.connection.platform_open:
            box.agent.connection.drop_by_platform()
            box.agent.connection.drop_by_box()
            box.agent.broken(box.agent.connection, False)

    # ---- the box

    def kill_agent(self, box: Box) -> None:
        self._in(box, box.kill_agent)

    def kill_launcher(self, box: Box) -> None:
        self._in(box, when(lambda: box.launcher_up, box.kill_launcher))

    def kill_keeper(self, box: Box) -> None:
        self._in(box, when(lambda: box.keepers, lambda: self.world.random.choice(box.keepers).kill()))

    def kill_trainer(self, box: Box) -> None:
        self._in(box, when(lambda: box.trainers, lambda: self.world.random.choice(box.trainers).kill()))

    def kill_agent_between_actions(self, box: Box) -> None:
        if box.agent is not None:
            box.agent.crash_in = self.world.random.randint(0, 6)

    def kill_keeper_between_actions(self, box: Box) -> None:
        for one in box.keepers:
            one.crash_in = self.world.random.randint(0, 6)

    def stuck_in_driver(self, box: Box) -> None:
        for trainer in box.trainers:
            trainer.stuck = trainer.released
        self.world.after(self.world.uniform(1, 120) * SECOND, lambda: self.unstick(box))

    def unstick(self, box: Box) -> None:
        for trainer in box.trainers:
            trainer.stuck = False
            if trainer.kills:
                self._in(box, partial(trainer.die, -9))

    def freeze_box(self, box: Box) -> None:
        self._freeze(box, clock_stands=False)

    def pause_guest(self, box: Box) -> None:
        self._freeze(box, clock_stands=True)

    def _freeze(self, box: Box, *, clock_stands: bool) -> None:
        if box.up and not box.frozen:
            box.freeze(clock_stands=clock_stands)
            boot, length = box.boots, self.world.uniform(0.5, self.world.random.choice([10, 60, 200]))
            self.world.after(length * SECOND, when(lambda: box.boots == boot, box.thaw))

    def reboot(self, box: Box) -> None:
        if box.up:
            box.thaw()
            box.power_off()
            self.world.after(self.world.uniform(5, 90) * SECOND, when(lambda: not box.up, box.boot))

    def fill_disk(self, box: Box) -> None:
        box.disk_full = True
        self.laws.disk_was_full(box)
        self.world.after(self.world.uniform(1, 40) * SECOND, lambda: self.free_disk(box))

    def free_disk(self, box: Box) -> None:
        if box.disk_full:
            self.laws.disk_was_full(box)
        box.disk_full = False
        for one in list(box.keepers):
            self._in(box, one.retry)

    def _in(self, box: Box, act: Callable[[], None]) -> None:
        if box.up:
            box.do(act)

    # ---- the platform

    def kill_scheduler(self, box: Box) -> None:
        if self.platform.replicas:
            self.platform.kill(self.world.random.choice(self.platform.replicas))

    def kill_scheduler_between_actions(self, box: Box) -> None:
        for replica in self.platform.replicas:
            replica.crash_in = self.world.random.randint(0, 8)

    def freeze_scheduler(self, box: Box) -> None:
        if self.platform.replicas:
            replica = self.world.random.choice(self.platform.replicas)
            replica.freeze()
            self.world.after(self.world.uniform(1, 60) * SECOND, replica.thaw)

    def database_away(self, box: Box) -> None:
        self.platform.log.away = True

        def back() -> None:
            self.platform.log.away = False

        self.world.after(self.world.uniform(1, 60) * SECOND, back)

    def delay_events(self, box: Box) -> None:
        for replica in self.platform.replicas:
            replica.lag = int(self.world.random.choice([0, 1, 20]) * self.world.uniform(0, 1) * SECOND)

    def drain_scheduler(self, box: Box) -> None:
        if self.platform.replicas:
            self.platform.drain(self.world.random.choice(self.platform.replicas))


OPERATIONS: dict[str, tuple[float, Callable[[Schedule, Box], object]]] = {
    "submit": (2.5, Schedule.submit),
    "stop": (2, Schedule.stop),
    "suspend by owner": (1, Schedule.suspend_by_owner),
    "resume by owner": (2, Schedule.resume_by_owner),
    "suspend by admin": (0.4, Schedule.suspend_by_admin),
    "resume by admin": (0.8, Schedule.lift_admin),
    "regenerate the key": (0.5, Schedule.regenerate_key),
    "dial with a copied key": (0.5, Schedule.copy_key),
    "partition": (1.5, Schedule.partition),
    "one-way partition, box to platform": (1, Schedule.cut_up),
    "one-way partition, platform to box": (1, Schedule.cut_down),
    "slow link": (0.6, Schedule.slow_link),
    "repeated messages": (0.5, Schedule.repeat_messages),
    "connection reset": (1, Schedule.reset_connection),
    "kill agent": (1, Schedule.kill_agent),
    "kill launcher": (0.6, Schedule.kill_launcher),
    "kill keeper": (0.6, Schedule.kill_keeper),
    "kill trainer": (0.6, Schedule.kill_trainer),
    "kill agent between actions": (0.8, Schedule.kill_agent_between_actions),
    "kill keeper between actions": (0.6, Schedule.kill_keeper_between_actions),
    "trainer stuck in the driver": (0.8, Schedule.stuck_in_driver),
    "box suspended, clock goes on": (0.6, Schedule.freeze_box),
    "guest paused, clock stands still": (0.8, Schedule.pause_guest),
    "reboot": (0.5, Schedule.reboot),
    "disk full": (0.4, Schedule.fill_disk),
    "kill scheduler": (0.8, Schedule.kill_scheduler),
    "kill scheduler between actions": (0.6, Schedule.kill_scheduler_between_actions),
    "freeze scheduler": (0.5, Schedule.freeze_scheduler),
    "database away": (0.4, Schedule.database_away),
    "events come late": (0.5, Schedule.delay_events),
    "scheduler drained": (0.5, Schedule.drain_scheduler),
}


def run(seed: int) -> Outcome:
    """One schedule; the same seed gives the same one."""
    schedule = Schedule(seed)
    try:
        schedule.run()
    except LawBroken as broken:
        return Outcome(seed, schedule.world.seen, str(broken), schedule.world.story(80))
    return Outcome(seed, schedule.world.seen)
