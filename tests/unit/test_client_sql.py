"""SQL over an export: views that are typed and complete, exact values, and refusals in one sentence."""

import random
from pathlib import Path

import pytest

from services.client.errors import ExportDamaged, QueryFailed
from services.client.manifest import NAME
from services.client.sql import open_database
from services.eventlog.catalogue import EVENTS
from tests.support.exported import export_records
from tests.support.histories import history


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_records(tmp_path_factory.mktemp("export") / "out", history(random.Random(2), jobs=20), [50])


def test_every_event_type_is_a_view_with_typed_columns_also_one_without_an_event(folder: Path) -> None:
    with open_database(folder) as database:
        views = {view.name: dict(view.columns) for view in database.views()}
        (events,) = next(iter(database.query("select count(*) from events")))
    assert EVENTS.keys() <= views.keys()
    assert views["JobStarted"]["started_at_ms"] == "BIGINT"
    assert views["JobStarted"]["recorded_at"] == "TIMESTAMP WITH TIME ZONE"
    assert views["TokenRevoked"]["token_id"] == "VARCHAR"
    assert views["charges"]["ms_micros"] == "HUGEINT"
    assert views["events"]["type"] == "VARCHAR"
    assert events == len(history(random.Random(2), jobs=20))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("selct 1", 'the query failed: Parser Error: syntax error at or near "selct"'),
        ("select nope from JobStarted", 'Referenced column "nope" not found'),
        ("select * from JobStartet", 'Did you mean "JobStarted"'),
        ("select error('told')", "told"),
    ],
)
def test_a_wrong_query_is_told_in_one_sentence(folder: Path, query: str, words: str) -> None:
    with open_database(folder) as database, pytest.raises(QueryFailed) as refused:
        list(database.query(query))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_without_an_export_or_with_a_torn_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryFailed, match="holds no export; make one with"), open_database(tmp_path):
        pass
    (tmp_path / NAME).write_text('{"version": 1, "log_id"')
    with pytest.raises(ExportDamaged, match="is damaged"), open_database(tmp_path):
        pass
