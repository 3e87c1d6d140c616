"""What a check of a dataset finds, by the command that the box's agent runs."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protos.training.v1 import training_pb2
from runner_agent.trainer.check import check
from runner_agent.trainer.datasets import images
from runner_agent.trainer.datasets.listing import Item
from runner_agent.trainer.datasets.sample import write_digits


def look(location: Path | str) -> training_pb2.DatasetReport:
    return check(str(location), lambda: False)


def fatal(report: training_pb2.DatasetReport) -> str:
    assert not report.usable
    assert report.problems[0].fatal
    return report.problems[0].message


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two classes of 100 images each."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(100):
            pixels = generator.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index:03d}.png")
    return tmp_path / "data"


def test_the_digits_are_usable_and_the_same_wherever_they_are_written(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        assert write_digits(tmp_path / copy) == 1797
        command = [sys.executable, "-W", "error", "-m", "runner_agent.trainer.check", "--format", "image-folder"]
        subprocess.run([*command, "--output", f"{tmp_path / copy}.json", "--", tmp_path / copy], check=True)
    reports = [
        json_format.Parse((tmp_path / name).read_text(), training_pb2.DatasetReport()) for name in ("a.json", "b.json")
    ]
    assert reports[0] == reports[1]
    report = reports[0]
    assert report.usable
    assert report.problem_count == 0
    assert report.images == sum(found.images for found in report.classes) == 1797
    assert [found.name for found in report.classes] == [str(digit) for digit in range(10)]
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "a").rglob("*.png"))
    assert len(report.fingerprint) == 64


def test_a_check_never_loads_torch() -> None:
    code = "import sys, runner_agent.trainer.check; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_change_of_name_or_content_changes_the_fingerprint(dataset: Path) -> None:
    before = look(dataset).fingerprint
    (dataset / "cat" / "000.png").rename(dataset / "cat" / "x.png")
    renamed = look(dataset).fingerprint
    shutil.copy(dataset / "dog" / "000.png", dataset / "cat" / "x.png")
    assert len({before, renamed, look(dataset).fingerprint}) == 3


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/does/not/exist", "/does/not/exist cannot be opened on the runner's box (No such file or directory)"),
        ("relative/path", "'relative/path' is not an absolute path"),
        ("", "'' is not an absolute path"),
        ("s3://bucket/cats", "is a URL of protocol s3, and this runner reads file"),
        ("/etc/hostname", "is not a folder"),
        ("/nul\0byte", "cannot be opened"),
        ("/" + "x" * 5000, "File name too long"),
    ],
)
def test_a_location_that_is_no_folder_is_told(location: str, told: str) -> None:
    assert told in fatal(look(location))


def test_a_folder_without_classes_or_images_or_a_second_class_is_told(tmp_path: Path) -> None:
    assert "there are no class folders" in fatal(look(tmp_path))
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("miaow")
    assert "there are no images" in fatal(look(tmp_path))
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "1.png")
    assert "only one class, cat" in fatal(look(tmp_path))
    (tmp_path / "dog").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "dog" / "1.png")
    assert "only one image" in fatal(look(tmp_path))
    Image.new("L", (4, 4)).save(tmp_path / "dog" / "2.png")
    assert look(tmp_path).usable


def test_what_is_no_image_is_a_warning(dataset: Path) -> None:
    (dataset / "readme.txt").write_text("hello")
    (dataset / "cat" / "Thumbs.db").write_text("")
    (dataset / "cat" / ".hidden.png").write_text("")
    (dataset / "empty").mkdir()
    report = look(dataset)
    assert report.usable
    assert report.images == 200
    messages = [problem.message for problem in report.problems]
    assert messages == [
        "the class folder holds no images and is ignored",
        "2 files are not in a class folder or no images, and ignored, for example readme.txt",
    ]


def test_up_to_one_in_a_hundred_broken_images_is_a_warning_and_one_more_is_fatal(dataset: Path) -> None:
    (dataset / "cat" / "001.png").write_bytes(b"")
    whole = (dataset / "dog" / "002.png").read_bytes()
    (dataset / "dog" / "002.png").write_bytes(whole[: len(whole) // 2])
    report = look(dataset)
    assert report.usable
    assert report.images == 198
    assert [(problem.path, problem.fatal) for problem in report.problems] == [
        ("cat/001.png", False),
        ("dog/002.png", False),
    ]
    assert report.problems[0].message == "cat/001.png is empty"
    assert "dog/002.png is damaged" in report.problems[1].message
    (dataset / "dog" / "003.png").write_text("not an image")
    report = look(dataset)
    assert "cat/001.png is empty: 3 of 200 images cannot be read" in fatal(report)
    assert report.problem_count == 3
    assert all(problem.fatal for problem in report.problems)


def test_a_class_of_which_nothing_can_be_read_is_fatal(dataset: Path) -> None:
    (dataset / "owl").mkdir()
    (dataset / "owl" / "1.png").write_bytes(b"")
    assert "no image of class owl can be read" in fatal(look(dataset))


def test_problems_are_cut_at_a_hundred_and_counted_whole(dataset: Path) -> None:
    for path in (dataset / "cat").iterdir():
        path.write_bytes(b"x")
    for path in list((dataset / "dog").iterdir())[:30]:
        path.write_bytes(b"x")
    report = look(dataset)
    assert (len(report.problems), report.problem_count) == (100, 130)


def test_an_image_too_large_to_decode_is_told_without_decoding_it(dataset: Path) -> None:
    (dataset / "cat" / "huge.pgm").write_bytes(b"P5 9000 9000 255 ")
    (dataset / "cat" / "monstrous.pgm").write_bytes(b"P5 90000 90000 255 ")
    assert [problem.message for problem in look(dataset).problems] == [
        "cat/huge.pgm is 9000 x 9000 pixels, above the limit of 80 megapixels",
        "cat/monstrous.pgm is above the limit of 80 megapixels",
    ]


@pytest.mark.timeout(20)
def test_loops_pipes_and_dangling_links_end_a_check_no_later(dataset: Path) -> None:
    (dataset / "cat" / "loop").symlink_to(dataset)
    (dataset / "cat" / "self").symlink_to(dataset / "cat" / "self")
    (dataset / "dog" / "gone.png").symlink_to(dataset / "nowhere.png")
    os.mkfifo(dataset / "dog" / "pipe.png")
    report = look(dataset)
    # A link to a folder is followed once per class, so class cat also holds the 100 dogs and the links among them.
    broken = sorted(problem.path for problem in report.problems if "regular file" in problem.message)
    assert broken[-2:] == ["dog/gone.png", "dog/pipe.png"]
    assert [found.images for found in report.classes] == [200, 100]


def test_names_that_are_not_utf8_are_told_readably(dataset: Path) -> None:
    shutil.copytree(dataset / "cat", dataset / os.fsdecode(b"gr\xfcn"))
    assert [found.name for found in look(dataset).classes] == ["cat", "dog", "gr�n"]


def test_a_check_that_runs_out_of_time_says_so(dataset: Path) -> None:
    answers = iter([False] * 5)
    report = check(str(dataset), lambda: next(answers, True))
    assert report.usable
    assert report.fingerprint == ""
    assert "time ran out after" in report.problems[0].message
    assert "could not be listed in time" in fatal(check(str(dataset), lambda: True))


def test_sixteen_bit_grey_values_are_scaled_and_photographs_are_turned_upright(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    grey = images.decode(tmp_path, Item("grey.png", 0, 1))
    assert np.asarray(grey).tolist() == [[[127] * 3] * 4] * 4
    assert images.decode(tmp_path, Item("turned.jpg", 0, 1)).size == (4, 8)


SEEDS = []
for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, kind)
    SEEDS.append(buffer.getvalue())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(whole=st.sampled_from(SEEDS), data=st.data())
def test_no_damage_gets_past_decoding_as_another_error(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(whole)))]
    (tmp_path / "x").write_bytes(damaged)
    with contextlib.suppress(images.UnreadableImageError):
        assert images.decode(tmp_path, Item("x", 0, len(damaged)), 8).size == (8, 8)
