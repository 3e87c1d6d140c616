"""Every verb where something is missing: one sentence, an exit code, never a traceback, and nothing half done."""

import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner_agent import cli
from runner_agent.attempts import AttemptFolder
from runner_agent.config import StateFolder
from tests.support.eventually import eventually
from tests.support.fake_scheduler import FakeScheduler
from tests.support.owner import Owner

NOBODY = 65534
VERBS = (
    ("start",),
    ("stop", "--yes"),
    ("stop", "--after-job"),
    ("status",),
    ("suspend", "--for", "2h"),
    ("resume",),
    ("reauth",),
    ("restart",),
    ("logs",),
    ("disk",),
    ("prune", "--yes"),
    ("uninstall", "--yes"),
)
# Without a connection, and without a running agent, these do what they were asked all the same.
WORKS_OFFLINE = {"stop", "status", "suspend", "resume", "reauth", "logs", "disk", "prune", "uninstall"}


@dataclass
class Said:
    code: int
    stdout: str
    stderr: str

    @property
    def properly(self) -> bool:
        """At most one sentence of complaint, and never a traceback."""
        return self.stderr.count("\n") <= 1 and "Traceback" not in self.stderr + self.stdout


class Here:
    """Runs commands within this process: quicker, where no process of the runner is started."""

    def __init__(self, owner: Owner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.owner, self._monkeypatch, self._capsys = owner, monkeypatch, capsys
        monkeypatch.delenv("TETHER_RUNNER_STATE", raising=False)
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME", "TETHER_RUNNER_KEY", "COLUMNS"):
            monkeypatch.setenv(name, owner.environment[name])

    def tries(self, *arguments: str) -> Said:
        self._monkeypatch.setattr("sys.argv", ["tether-runner", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self._capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    # Nobody listens there.
    return Owner(tmp_path, "127.0.0.1:1")


@pytest.fixture
def here(owner: Owner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(owner, monkeypatch, capsys)


@pytest.fixture
async def trains(tmp_path: Path) -> AsyncIterator[tuple[Owner, FakeScheduler]]:
    platform = await FakeScheduler().start()
    owner = Owner(tmp_path, platform.address)
    owner.install("--simulate-gpus", "NVIDIA T4:1")
    owner.hold("run")
    await owner.starts()
    platform.direct("a1")
    await eventually(lambda: "started" in platform.facts("a1"))
    yield owner, platform
    await owner.clear()
    await platform.stop()


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """What lies in a folder, to the byte; sockets and logs of living processes beside."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in files}


def test_without_a_runner_every_verb_says_what_to_do_first(here: Here) -> None:
    absent = here.owner.home / "absent"
    for verb in VERBS:
        for where in ((), ("--name", "box"), ("--state-dir", str(absent))):
            said = here.tries(*verb, *where)
            assert (said.code, said.stdout, said.stderr.count("\n")) == (1, "", 1), (verb, where, said)
            assert "`tether-runner install` first" in said.stderr
    assert not absent.exists()


def test_a_runner_that_does_not_run_and_a_platform_that_is_away(here: Here) -> None:
    simulate = ("--simulate-gpus", "NVIDIA T4:1", "--no-service")
    assert here.tries("install", "--server", "127.0.0.1:1", *simulate).code == 0
    for verb in VERBS:
        if verb[0] in WORKS_OFFLINE:
            said = here.tries(*verb)
            assert (said.code, said.properly) == (0, True), (verb, said)
            assert said.stdout, verb
    assert not here.owner.folder().root.exists()


async def test_a_runner_that_runs_while_the_platform_is_away(owner: Owner, here: Here) -> None:
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    try:
        for begin, word in (("start", "not connected"), ("restart", "is restarted")):
            done = owner.tries(begin)
            assert done.returncode == 1, "it is not connected"
            assert word in done.stdout
            assert "Traceback" not in done.stderr
            assert owner.launcher(), "it goes on trying"
        assert "is running already" in here.tries("start").stderr
        assert "127.0.0.1:1" in here.tries("status").stdout
        for verb in VERBS[3:]:
            if verb[0] not in ("restart", "uninstall"):
                said = here.tries(*verb)
                assert (said.code, said.properly) == (0, True), (verb, said)
        assert "is stopped" in here.tries("stop").stdout
        assert owner.launcher() == 0
    finally:
        await owner.clear()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_somebody_elses_runner_is_neither_read_nor_changed(owner: Owner) -> None:
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    folder = owner.folder().root
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = tree(folder)
    for verb in (("status",), ("suspend",), ("stop", "--yes"), ("logs",), ("reauth",), ("uninstall", "--yes")):
        # Root without its rights is anybody.
        done = subprocess.run(
            ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *owner.argv(*verb, "--state-dir", str(folder))],
            env=owner.environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert "belongs to another user" in done.stderr
    assert tree(folder) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_what_root_writes_for_another_users_runner_is_that_users(open_folder: Path) -> None:
    owner = Owner(open_folder, "127.0.0.1:1")
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    folder = owner.folder()
    for path in (folder.root, *folder.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    assert "is suspended" in owner.tries("suspend").stdout
    assert folder.suspension.stat().st_uid == NOBODY
    assert "takes trainings again" in owner.tries("resume").stdout


def test_a_key_that_cannot_be_one_is_refused_without_asking_anyone(owner: Owner) -> None:
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    before = tree(owner.folder().root)
    done = owner.tries("reauth", TETHER_RUNNER_KEY="nonsense")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "copy it again" in done.stderr
    assert tree(owner.folder().root) == before


async def test_uninstalling_during_a_training_asks_and_a_no_changes_nothing(
    trains: tuple[Owner, FakeScheduler],
) -> None:
    owner, platform = trains
    # Whatever lives writes: only what stands still can be compared.
    stands = ("config.toml", "secret_key", "installation_id", "attempts/a1/assignment.pb", "attempts/a1/phase.json")
    folder = owner.folder().root
    before = {name: (folder / name).read_bytes() for name in stands}
    code, said = owner.answers("n", "uninstall")
    assert code == 1
    assert "The job job-of-a1 runs here" in said
    assert "nothing was changed" in said
    assert {name: (folder / name).read_bytes() for name in stands} == before
    assert not (folder / "suspension.json").exists()
    seen = len(platform.records["a1/trainer"])
    await eventually(lambda: len(platform.records["a1/trainer"]) > seen)
    assert platform.ended("a1") is None


def test_declining_to_uninstall_leaves_every_file_as_it_was(owner: Owner) -> None:
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    attempt = AttemptFolder(owner.folder().attempts, "a1")
    (attempt.path / "checkpoints").mkdir(parents=True)
    (attempt.path / "checkpoints" / "last.pt").write_bytes(b"weights")
    before = tree(owner.home)
    for answer in ("n", ""):
        code, said = owner.answers(answer, "uninstall", "--delete-checkpoints")
        assert code == 1
        assert "1 checkpoint files" in said
    assert owner.tries("uninstall").returncode == 1
    assert tree(owner.home) == before


async def test_uninstalling_cut_off_does_its_part_alone(trains: tuple[Owner, FakeScheduler]) -> None:
    owner, platform = trains
    await platform.stop()
    done = owner.tries("uninstall", "--yes")
    assert done.returncode == 0
    assert "could not be told" in done.stderr
    assert "is uninstalled" in done.stdout
    assert owner.launcher() == 0
    assert StateFolder(owner.folder().root).config.exists() is False
    assert "No runner is installed" in owner.tries("list").stdout


def test_logs_are_followed_as_they_come(owner: Owner) -> None:
    assert owner.install("--simulate-gpus", "NVIDIA T4:1").returncode == 0
    log = owner.folder().launcher_log
    log.write_text('{"event": "one", "level": "info"}\n')
    following = subprocess.Popen(owner.argv("logs", "-f"), env=owner.environment, stdout=subprocess.PIPE, text=True)
    assert following.stdout is not None
    assert "one" in following.stdout.readline()
    with log.open("a") as file:
        file.write('{"event": "two", "level": "info"}\nno json\n')
    assert "two" in following.stdout.readline()
    assert "no json" in following.stdout.readline()
    following.terminate()
    following.wait()
    following.stdout.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed_and_completes_verbs_and_names(owner: Owner, shell: str) -> None:
    owner.install("--simulate-gpus", "NVIDIA T4:1", "--name", "box-7")
    # Told instead of found among the processes above, of which a test has any.
    done = owner.tries("--install-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    if shell == "bash":
        words = {"COMP_WORDS": "tether-runner status --name box", "COMP_CWORD": "3"}
        done = owner.tries(**words, _TETHER_RUNNER_COMPLETE="complete_bash")
        assert done.stdout.split() == ["box-7"], done
