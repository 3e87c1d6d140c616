"""What trainings reach on the handwritten digits with the catalogue's defaults, nothing touched."""

from pathlib import Path

import pytest

from runner_agent.trainer import devices
from tests.support import tasks
from tests.support.trained import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Metric of each task and what it reaches at the least; 0.983, 0.86 and 0.71 when this was written.
FLOORS = {
    tasks.CLASSIFICATION: ("validation/accuracy", 0.97),
    tasks.DETECTION: ("validation/map", 0.75),
    tasks.SEGMENTATION: ("validation/miou", 0.65),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.use_one_thread()


@pytest.mark.parametrize("architecture_id", tasks.ALL)
def test_the_defaults_train_well_without_touching_anything(tmp_path: Path, architecture_id: str) -> None:
    location = tasks.write(architecture_id, tmp_path / "data")
    trained = Trained(tmp_path, "at_1", tasks.training(architecture_id, location))
    assert trained.ended["outcome"] == "FINISHED", trained.ended
    metric, floor = FLOORS[architecture_id]
    assert trained.ended["metrics"][metric] >= floor
