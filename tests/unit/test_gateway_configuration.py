"""What the gateway's configuration always holds, whatever it is told."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.gateway.envoy import configuration
from services.gateway.files import MAX_FILE_BYTES, PageRefused, read_page
from services.gateway.plan import UPSTREAMS, Limits, Plan, names_of
from services.gateway.routes import GRPC
from services.rpc.roles import ROLES

SERVICES = dict(zip(UPSTREAMS, ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "eventlog:4"), strict=True))
PLAN = Plan("127.0.0.1:27700", SERVICES, (), names_of("127.0.0.1:27700"))


def routes(plan: Plan = PLAN) -> list[dict[str, Any]]:
    (listener,) = configuration(plan)["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    ours: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return ours


def test_every_method_of_every_service_has_its_way() -> None:
    for method in ROLES:
        service = method.removeprefix("/tether.").partition(".")[0]
        (prefix,) = [prefix for prefix in GRPC if method.startswith(prefix)]
        assert GRPC[prefix] == service


def test_no_call_has_a_limit_of_time_and_every_one_must_be_grpc() -> None:
    calls = [route for route in routes() if "route" in route]
    assert [route["route"]["cluster"] for route in calls] == list(GRPC.values())
    for route in calls:
        assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "0s")
        assert route["match"]["headers"][0]["string_match"] == {"prefix": "application/grpc"}


def test_there_is_no_port_for_administrators_and_no_name_for_everyone() -> None:
    told = configuration(PLAN)
    assert "admin" not in told
    assert len(told["static_resources"]["listeners"]) == 1
    assert PLAN.hosts == ("127.0.0.1:27700", "localhost:27700", "[::1]:27700")
    assert "*" not in "".join(PLAN.hosts)


def test_breakers_are_far_above_ten_thousand_boxes() -> None:
    for cluster in configuration(PLAN)["static_resources"]["clusters"]:
        (thresholds,) = cluster["circuit_breakers"]["thresholds"]
        assert all(value >= 100_000 for value in thresholds.values())
    assert Limits().connections >= 20_000


def test_names_are_resolved_and_addresses_are_not() -> None:
    clusters = configuration(PLAN)["static_resources"]["clusters"]
    assert {cluster["name"]: cluster["type"] for cluster in clusters} == {
        "scheduler": "STATIC",
        "quota": "STATIC",
        "metrics": "STATIC",
        "eventlog": "STRICT_DNS",
    }


def test_limits_reach_envoy() -> None:
    told = json.dumps(configuration(replace(PLAN, limits=Limits(connections=77, heap_bytes=12_345))))
    assert '"max_active_downstream_connections": 77' in told
    assert '"max_heap_size_bytes": 12345' in told


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "a b-123.js").write_text("1")
    return folder


def test_the_page_is_its_files_and_nothing_else(page: Path) -> None:
    assert [file.path for file in read_page(page)] == ["/assets/a%20b-123.js", "/index.html"]
    (page / "index.html").unlink()
    assert read_page(page) == ()
    assert read_page(page / "nowhere") == ()


def test_a_link_out_of_the_page_is_refused(page: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (page / "assets" / "within.js").symlink_to(page / "assets" / "a b-123.js")
    assert len(read_page(page)) == 3
    (page / "assets" / "secret.js").symlink_to(tmp_path / "secret")
    with pytest.raises(
        PageRefused, match=r"secret\.js is not a file of the page, or leads out of its folder; run `make"
    ):
        read_page(page)


def test_a_page_that_goes_away_while_it_is_read_is_refused(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_file = Path.is_file

    def then_gone(file: Path) -> bool:
        found = is_file(file)
        if file.suffix == ".js":
            file.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", then_gone)
    with pytest.raises(PageRefused, match=r"123\.js cannot be read \(No such file or directory\)"):
        read_page(page)


def test_names_are_those_that_browsers_say() -> None:
    assert names_of("0.0.0.0:80", "GPU.example.com")[:2] == ("0.0.0.0:80", "localhost:80")
    assert {"localhost", "127.0.0.1", "[::1]", "gpu.example.com"} < set(names_of("0.0.0.0:80", "GPU.example.com"))
    assert "localhost" not in names_of("0.0.0.0:8080")


def test_a_file_that_is_too_large_to_keep_is_refused(page: Path) -> None:
    with (page / "assets" / "huge.js").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(PageRefused, match=r"huge\.js is larger than the 8 MiB that are served"):
        read_page(page)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hosts", "https://gpu.example.com"], "'https://gpu.example.com' is no host or host:port"),
        (["--quota-address", "quota"], "setting quota_address: it must be host:port"),
        (["--listen", "127.0.0.1:0"], "setting listen: it needs a port"),
        (["--listen", "0.0.0.0:27700"], "0.0.0.0:27700 is not loopback and there is no TLS"),
        (["--output", "/nowhere/envoy.json"], "cannot write /nowhere/envoy.json (No such file or directory)"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(arguments: list[str], words: str) -> None:
    upstreams = [f"--{name}-address=127.0.0.1:1" for name in UPSTREAMS]
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway", *upstreams, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
