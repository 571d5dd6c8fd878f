"""Numbers and files that cannot be meant: FKD labels, shards, sizes and devices are refused in one line."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from released_fkd import BATCH, CLASSES, write_released
from torch import Tensor

from fastdd.cli import main
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.export import export
from fastdd.labels import LabelForm, StoredLabels, import_fkd
from fastdd.runtime.devices import device_of


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (21, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def fkd(images: Tensor, tmp_path: Path) -> Path:
    write_released(tmp_path / "fkd", images, "cutmix", True)
    return tmp_path / "fkd"


def refused(fkd: Path, images: Tensor, classes: int = CLASSES, **more: Any) -> str:
    out = fkd.parent / "labels"
    with pytest.raises(InputError) as caught:
        import_fkd(fkd, out, images, classes, **more)
    return str(caught.value)


def test_topk_of_labels_needs_classes_and_a_temperature(fkd: Path, images: Tensor) -> None:
    for k in (0, -1, CLASSES + 1):
        assert f"got k {k}; give --k from 1 to {CLASSES}" in refused(fkd, images, form=LabelForm("topk", k=k))
    for temperature in (0.0, -1.0, math.nan, math.inf):
        topk = LabelForm("topk", k=3, temperature=temperature)
        assert "temperature above 0, got " in refused(fkd, images, form=topk)
    assert "labels of 0 classes" in refused(fkd, images, classes=0)
    assert not (fkd.parent / "labels").exists()


def test_an_epoch_that_labels_one_image_again_and_again_is_refused(fkd: Path, images: Tensor) -> None:
    for file in (fkd / "epoch_0").iterdir():
        content = torch.load(file, weights_only=False)
        content[6] = torch.zeros_like(torch.as_tensor(content[6]))
        torch.save(content, file)
    text = refused(fkd, images)
    assert f"labels image 0 {len(images)} times and leaves {len(images) - 1} without a label" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, torch.full((BATCH, 4), 1e30)),
        (0, torch.full((BATCH, 4), math.nan)),
        (1, torch.zeros(BATCH, 1, dtype=torch.bool)),
        (3, 1e30),
        (3, math.nan),
        (4, [1e30, 0, 1e30, 5]),
        (4, [math.inf, 0, 3, 5]),
        (4, [-5, 0, 3, 5]),
        (4, [1, 2]),
        (6, torch.full((BATCH,), 1e30)),
    ],
)
def test_numbers_of_labels_that_no_image_has(fkd: Path, images: Tensor, field: int, value: object) -> None:
    file = fkd / "epoch_0" / "batch_0.tar"
    content = torch.load(file, weights_only=False)
    content[field] = value
    torch.save(content, file)
    assert "batch_0.tar" in refused(fkd, images)


def test_a_pipe_in_place_of_labels_does_not_hang(fkd: Path, images: Tensor) -> None:
    file = fkd / "epoch_0" / "batch_0.tar"
    file.unlink()
    os.mkfifo(file)
    assert "batch_0.tar is no file" in refused(fkd, images)


def test_labels_of_a_thousand_million_epochs_are_damage(
    fkd: Path, images: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = import_fkd(fkd, fkd.parent / "labels", images, CLASSES)
    manifest = labels.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    for key in ("epochs", "samples", "classes"):
        manifest.write_text(json.dumps(content | {key: 10**10}))
        started = time.monotonic()
        assert main(["labels", "show", str(labels.folder)]) == 2
        assert f"manifest.json is damaged ({key}: " in capsys.readouterr().err
        assert time.monotonic() - started < 5
    manifest.write_text(json.dumps(content))
    assert len(StoredLabels.open(labels.folder).epochs) == len(labels.epochs)


@pytest.mark.parametrize("name", ["meta", "warp", "cuda:-1", "cpu:x", ""])
def test_a_device_that_computes_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be used here|is unknown"):
        device_of(name)


def test_sizes_of_an_export(finished: Path, tmp_path: Path) -> None:
    for size in (0, -1, 100_000, 10**12):
        with pytest.raises(InputError, match=f"size {size} is not possible; expected 1 to 8192 pixels"):
            open_set(finished, "deda", size=size, channels=1)
    distilled = open_set(finished, "deda", channels=1)
    for megabytes in (math.nan, math.inf, 0.0, -1.0, 1e30):
        with pytest.raises(InputError, match="MB are not possible"):
            export(distilled, "imagefolder", tmp_path / "out", shard_mb=megabytes)
    assert not (tmp_path / "out").exists()
