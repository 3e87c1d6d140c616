"""A wrong setting stops the start with one sentence that says which, what is wrong, and where to set it."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.eventlog.bootstrap import Settings as EventlogSettings
from services.metrics.bootstrap import Settings as MetricsSettings
from services.quota.bootstrap import Settings as QuotaSettings
from services.rpc.settings import ServiceSettings, StartRefused, load
from services.scheduler.bootstrap import Settings as SchedulerSettings

MODELS = {
    "eventlog": EventlogSettings,
    "scheduler": SchedulerSettings,
    "quota": QuotaSettings,
    "metrics": MetricsSettings,
}
GOOD = {"TETHER_POSTGRES_URL": "postgresql://role:secret@127.0.0.1/tether"}


def loaded(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str, **environment: str) -> ServiceSettings:
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    for name, value in {**GOOD, **environment}.items():
        monkeypatch.setenv(name, value)
    return load(MODELS[program], program)


@pytest.mark.parametrize("program", MODELS)
def test_a_good_environment_is_taken(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    assert loaded(monkeypatch, program, TETHER_LISTEN="127.0.0.1:5").listen == "127.0.0.1:5"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TETHER_POSTGRES_URL": "mysql://x"}, ("postgres_url", "postgresql://", "TETHER_POSTGRES_URL")),
        ({"TETHER_LISTEN": "127.0.0.1"}, ("listen", "host:port")),
        ({"TETHER_LISTEN": "0.0.0.0:5"}, ("0.0.0.0:5", "not loopback", "--insecure")),
        ({"TETHER_WINDOW_MS": "soon"}, ("window_ms", "integer", "TETHER_WINDOW_MS")),
        ({"TETHER_WINDOW_MS": "5"}, ("window_ms", "1000")),
        ({"TETHER_OPERATOR_TOKEN_SHA256": "abc"}, ("operator_token_sha256", "64 hexadecimal")),
        ({"TETHER_CONFIG": "/nowhere.toml"}, ("/nowhere.toml",)),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(StartRefused) as refused:
        loaded(monkeypatch, "scheduler", **environment)
    sentence = str(refused.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert "secret" not in sentence


def test_command_line_beats_environment_beats_file_beats_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tether.toml"
    file.write_text('listen = "127.0.0.1:1"\nwindow_ms = 60000\nnats_url = "nats://file:1"\n')
    settings = loaded(
        monkeypatch, "scheduler", "--config", str(file), "--listen", "127.0.0.1:3", TETHER_LISTEN="127.0.0.1:2"
    )
    assert isinstance(settings, SchedulerSettings)
    assert (settings.listen, settings.window_ms, settings.nats_url) == ("127.0.0.1:3", 60_000, "nats://file:1")
    assert settings.ingest_address == ""


def test_a_file_that_is_no_toml_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "tether.toml"
    file.write_text("listen = = 1")
    with pytest.raises(StartRefused, match="not valid TOML"):
        loaded(monkeypatch, "quota", "--config", str(file))


@pytest.mark.parametrize("program", MODELS)
def test_help_shows_every_setting_with_its_meaning(program: str) -> None:
    command = [sys.executable, "-m", f"services.{program}", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, field in MODELS[program].model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description
