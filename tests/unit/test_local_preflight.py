"""What a machine may lack, each told in one sentence with the way out."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import preflight

GIB = 1024**3


@pytest.mark.parametrize(
    ("sentence", "way_out"),
    [
        (preflight.check_python((3, 9)), "Python 3.9 is too old; install Python 3.11 or newer and run: make PYTHON="),
        (preflight.check_venv(["ensurepip"]), "apt-get install python3."),
        (preflight.check_venv(["venv", "ensurepip"]), "venv and ensurepip"),
        (preflight.check_disk(3 * GIB + GIB // 2), "only 3.5 GiB of disk are free here and an installation needs 4"),
        (preflight.check_platform("Darwin", "arm64", ("", "")), "not on Darwin on arm64; use a container"),
        (preflight.check_platform("Linux", "riscv64", ("glibc", "2.39")), "not on Linux on riscv64"),
        (preflight.check_platform("Linux", "x86_64", ("glibc", "2.28")), "glibc 2.28 is too old; use a distribution"),
        (preflight.check_platform("Linux", "x86_64", ("", "")), "another C library than glibc; use a distribution"),
    ],
)
def test_what_is_missing_is_told_with_the_way_out(sentence: str, way_out: str) -> None:
    assert way_out in sentence
    assert "\n" not in sentence


def test_a_machine_that_has_all_is_told_nothing() -> None:
    assert preflight.check_python((3, 11)) == preflight.check_python((3, 14)) == ""
    assert preflight.check_venv([]) == ""
    assert preflight.check_disk(4 * GIB) == ""
    assert preflight.check_platform("Linux", "x86_64", ("glibc", "2.31")) == ""
    assert preflight.check_platform("Linux", "aarch64", ("glibc", "2.41")) == ""


def test_it_runs_without_the_packages_that_it_checks_for() -> None:
    script = Path(preflight.__file__)
    run = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
