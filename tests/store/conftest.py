from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velodrome.records import EventRow, StudyRow, TrialRow, trial_id
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    with Writer(path) as writer:
        yield writer


@pytest.fixture
def reader(path: Path, writer: Writer) -> Iterator[Reader]:
    with Reader(path) as reader:
        yield reader


@pytest.fixture
def study_row() -> Callable[..., StudyRow]:
    def make(name: str = "digits", **changes: Any) -> StudyRow:
        row = StudyRow(0, name, "stopped", "minimize loss", 7, 10, "random", "none", "{}", "f.py:train", "{}", 1000.0)
        return row._replace(**changes)

    return make


@pytest.fixture
def study_id(writer: Writer, study_row: Callable[..., StudyRow]) -> int:
    return writer.create_study(study_row())


@pytest.fixture
def trial_row() -> Callable[..., TrialRow]:
    def make(study_id: int, number: int, value: float | None = 0.5, **changes: Any) -> TrialRow:
        row = TrialRow(
            trial_id(study_id, number), study_id, number, "completed", 1, value, value, "{}", number, "w0", "cpu",
            1.0, 2.0, 5.0, None, None, None,
        )
        return row._replace(**changes)

    return make


@pytest.fixture
def event_row() -> Callable[..., EventRow]:
    def make(study_id: int, seq: int, kind: str = "returned", number: int | None = 0, data: str = "[]") -> EventRow:
        return EventRow(study_id, seq, float(seq), kind, number, data)

    return make
