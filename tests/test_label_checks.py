"""Labels that a recipe asks for and could not have are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipe import SMALL

import fastdd
from fastdd.errors import InputError

VIEWS = ["student.labels=stored", "labels.per=view", "labels.replay=cycle"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            ["labels.keep=0.001"],
            "labels.keep 0.001 of 2 epochs of 10 samples in batches of 10 leaves no batch",
        ),
        (
            ["labels.form=topk", "labels.topk=11"],
            "labels.topk keeps 11 classes and there are 10; set it to 10",
        ),
    ],
)
def test_labels_that_could_not_be_are_refused_before_any_work(
    tmp_path: Path, asked: list[str], told: str
) -> None:
    (tmp_path / "own.yaml").write_text(SMALL)
    overrides = [*VIEWS, *asked]
    with pytest.raises(InputError, match=told):
        fastdd.run(str(tmp_path / "own.yaml"), tmp_path / "out", overrides)
    assert not (tmp_path / "out").exists()
