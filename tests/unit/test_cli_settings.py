"""Which platform the command talks to, and what it says when nothing tells."""

from pathlib import Path

import pytest

from services.cli.errors import CliError, NotConfigured
from services.cli.settings import SERVICES, load

FILE = """
token = "tt_of_file"
operator_token = "tt_of_operator"
[endpoints]
scheduler = "127.0.0.1:1"
quota = "127.0.0.1:2"
metrics = "127.0.0.1:3"
eventlog = "127.0.0.1:4"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "client.toml").write_text(FILE)
    return tmp_path


def test_the_file_of_a_local_platform_gives_addresses_and_tokens(home: Path) -> None:
    settings = load(None, None, False, {"TETHER_HOME": str(home)})
    assert [settings.endpoints[service].target for service in SERVICES] == [f"127.0.0.1:{n}" for n in (1, 2, 3, 4)]
    assert (settings.token, settings.operator_token) == ("tt_of_file", "tt_of_operator")


def test_a_token_of_the_environment_goes_before_the_file(home: Path) -> None:
    assert load(None, None, False, {"TETHER_HOME": str(home), "TETHER_TOKEN": "tt_mine"}).token == "tt_mine"


def test_a_server_goes_before_the_file_and_serves_everything(home: Path) -> None:
    settings = load("https://t.example:443", None, False, {"TETHER_HOME": str(home), "TETHER_TOKEN": "tt_mine"})
    assert {(address.target, address.tls) for address in settings.endpoints.values()} == {("t.example:443", True)}
    assert settings.operator_token == "", "a local operator's token never goes to another platform"


def test_a_token_of_the_local_file_never_goes_to_another_server(home: Path) -> None:
    with pytest.raises(NotConfigured, match="set TETHER_TOKEN"):
        load("https://t.example:443", None, False, {"TETHER_HOME": str(home)})


def test_a_token_goes_to_another_machine_only_encrypted_unless_told_otherwise(tmp_path: Path) -> None:
    environment = {"TETHER_HOME": str(tmp_path), "TETHER_TOKEN": "tt_mine"}
    with pytest.raises(CliError, match="would not be encrypted"):
        load("t.example:443", None, False, environment)
    assert not load("t.example:443", None, True, environment).endpoints["quota"].tls
    assert load("[::1]:443", None, False, environment).endpoints["quota"].target == "[::1]:443"


def test_the_page_is_where_the_gateway_is(home: Path) -> None:
    environment = {"TETHER_HOME": str(home), "TETHER_TOKEN": "tt_mine"}
    assert load(None, None, False, environment).page == "", "a platform may run without one"
    (home / "client.toml").write_text(FILE + 'gateway = "127.0.0.1:27700"\n')
    assert load(None, None, False, environment).page == "http://localhost:27700"
    assert load("https://t.example:443", None, False, environment).page == "https://t.example:443"


def test_without_anything_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="run `tether up`, or set TETHER_SERVER and TETHER_TOKEN"):
        load(None, None, False, {"TETHER_HOME": str(tmp_path)})


@pytest.mark.parametrize("server", ["", "nonsense", "host", "host:port", "host:99999", "ftp://host:1", "https://h:1/x"])
def test_an_address_that_is_none_is_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"is not an address|no platform is configured"):
        load(server, None, False, {"TETHER_HOME": str(tmp_path), "TETHER_TOKEN": "tt_mine"})


@pytest.mark.parametrize("content", ["", "tt_a b", "tt_ü", "tt_a\ntt_b"])
def test_a_token_file_without_one_token_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(CliError, match=r"is empty|is no token"):
        load("127.0.0.1:1", file, False, {})


@pytest.mark.parametrize("content", ["token = ", "[endpoints]\nscheduler = 7", ""])
def test_a_damaged_file_says_how_to_mend_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_text(content)
    with pytest.raises(CliError, match="start `tether up` again"):
        load(None, None, False, {"TETHER_HOME": str(tmp_path)})
