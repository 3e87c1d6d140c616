"""Ports, secrets, state and logs of the platform on this machine."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.credentials import load_or_make
from deploy.local.errors import LocalError, StartFailed, last_lines
from deploy.local.home import Home
from deploy.local.platform import PORTS
from deploy.local.ports import assign, is_free
from deploy.local.process import LOG_LIMIT_BYTES, ProcessIdentity, open_log, rotate, rotate_open
from deploy.local.state import PlatformState, ProcessState, running

NAMES = ("postgres", "nats", "scheduler")


def test_ports_are_different_below_the_range_of_outgoing_connections_and_stay(tmp_path: Path) -> None:
    ports, moved = assign(NAMES, tmp_path / "ports.json")
    assert len(set(ports.values())) == len(NAMES)
    assert all(20000 <= port < 32768 for port in ports.values())
    assert moved == []
    assert assign(NAMES, tmp_path / "ports.json") == (ports, [])


def test_only_the_port_that_is_taken_moves(tmp_path: Path) -> None:
    ports, _ = assign(NAMES, tmp_path / "ports.json")
    with socket.create_server(("127.0.0.1", ports["nats"])):
        assert not is_free(ports["nats"])
        now, moved = assign(NAMES, tmp_path / "ports.json")
    assert moved == ["nats"]
    assert now["nats"] != ports["nats"]
    assert {name: now[name] for name in ("postgres", "scheduler")} == {
        name: ports[name] for name in ("postgres", "scheduler")
    }


def test_the_gateway_has_the_first_port_and_an_older_platform_keeps_its_own(tmp_path: Path) -> None:
    new, _ = assign(PORTS, tmp_path / "new.json", first=20_100)
    assert (new["gateway"], new["postgres"]) == (20_100, 20_101)
    older = {name: 20_100 + number for number, name in enumerate(name for name in PORTS if name != "gateway")}
    (tmp_path / "older.json").write_text(json.dumps(older))
    ports, moved = assign(PORTS, tmp_path / "older.json", first=20_100)
    assert ports == {**older, "gateway": ports["gateway"]}
    assert moved == []
    assert assign(PORTS, tmp_path / "older.json", first=20_100) == (ports, [])


def test_a_log_is_shortened_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with open_log(log) as writer:
        writer.write(b"a" * (LOG_LIMIT_BYTES + 1))
        writer.flush()
        rotate_open(log)
        writer.write(b"b\n")
    assert log.read_bytes() == b"b\n"
    earlier = tmp_path / "gateway.log.1"
    assert earlier.stat().st_size == LOG_LIMIT_BYTES + 1
    assert stat.S_IMODE(earlier.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[1]", '{"nats": "many"}', '{"nats": null}'])
def test_a_spoilt_port_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(LocalError, match=r"ports\.json is not a JSON object of ports; correct it or delete it"):
        assign(NAMES, tmp_path / "ports.json")


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    made = load_or_make(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_make(file) == made
    assert made.operator_token.startswith("tt_")
    assert len(made.operator_token) == len("tt_") + 43
    words = [made.postgres_superuser, made.nats, made.operator_token, *made.postgres_services.values()]
    assert len(set(words)) == len(words)
    made.with_workspace_token("tt_x").save(file)
    assert load_or_make(file).workspace_token == "tt_x"


def test_spoilt_secrets_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")
    with pytest.raises(LocalError, match="restore it"):
        load_or_make(tmp_path / "secrets.json")
    assert (tmp_path / "secrets.json").read_text() == "{}"


processes = st.builds(ProcessIdentity, st.integers(1, 2**22), st.integers(0, 2**63), st.uuids().map(str))
states = st.builds(
    PlatformState,
    st.sampled_from(["starting", "running", "stopping"]),
    processes,
    st.lists(
        st.builds(ProcessState, st.text(), st.text(), st.text(), st.integers(0, 9), st.none() | processes), max_size=4
    ).map(tuple),
)


@given(states)
def test_the_state_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, state: PlatformState) -> None:
    file = tmp_path_factory.mktemp("state") / "platform.json"
    state.save(file)
    assert PlatformState.load(file) == state


@given(st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b'{"phase": "running", "supervisor": 3}']))
def test_a_spoilt_state_counts_as_none(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("state") / "platform.json"
    file.write_bytes(content)
    assert PlatformState.load(file) is None
    assert running(file) is None


def test_a_process_id_of_another_boot_or_start_is_another_process() -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert not ProcessIdentity(me.pid, me.start_ticks + 1, me.boot_id).alive()
    assert not ProcessIdentity(me.pid, me.start_ticks, "another boot").alive()


def test_a_log_past_its_limit_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "quota.log"
    rotate(log)
    log.write_bytes(b"x" * LOG_LIMIT_BYTES)
    rotate(log)
    assert log.exists()
    with log.open("ab") as file:
        file.write(b"x")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "quota.log.1").stat().st_size == LOG_LIMIT_BYTES + 1


def test_a_failed_start_tells_the_last_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "quota.log"
    assert last_lines(log) == []
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    message = str(StartFailed("quota", "it exited with code 2", log))
    assert message.startswith(f"quota did not start: it exited with code 2; see {log}")
    assert message.endswith("line 4998\n  line 4999")
    assert "line 4991\n" not in message


def test_a_folder_that_was_prepared_is_known_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.root / "ports.json").write_text(json.dumps({}))
    home.prepare()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
