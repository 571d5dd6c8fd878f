"""CIM end to end: which images go into which cell, what students see of cells and mosaics, and a run."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from galleries import random_teacher
from pydantic import ValidationError
from test_pairs import wave
from torch import Tensor
from torchvision.io import decode_image

from fastdd.cli import main
from fastdd.config import Formation, Method, Student
from fastdd.distilled import open_set
from fastdd.distilled.formation import unpack
from fastdd.distilled.images import Storage
from fastdd.evaluate.batches import AugmentedBatches
from fastdd.evaluate.protocol_text import protocol_hash, protocol_text
from fastdd.protocols import settle_student
from fastdd.protocols.rules import batch_by_images
from fastdd.recipes.resolve import resolve
from fastdd.recover.init.selection import confident, ranks_of_cells

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS = Formation(kind="cells")


# -- the selection -----------------------------------------------------------------------------------


def test_the_selection_has_the_golden_order() -> None:
    logits = wave(6, 3, a=1.7)
    loss = F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64), reduction="none")
    wanted = [1.4974367, 2.3744802, 1.9227014, 0.6078900, 0.3847943, 1.1220640]
    assert loss.tolist() == pytest.approx(wanted, abs=5e-8)
    assert confident(logits.log_softmax(1)[:, 0], 6).tolist() == [4, 3, 5, 0, 2, 1]


def test_the_surest_images_lie_in_the_first_cells() -> None:
    assert ranks_of_cells(12, 4).tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    assert ranks_of_cells(4, 4).tolist() == [0, 1, 2, 3]


# -- what students see -------------------------------------------------------------------------------


def student(**values: Any) -> Student:
    plain = {"network": "resnet8", "steps": 4, "batch": 8, "pad": 0, "flip": 0.0, "mix": "none"}
    return Student.model_validate(plain | values)


def batches(config: Student, images: Tensor, storage: Storage) -> AugmentedBatches:
    settled = settle_student(config, len(images), 2, per_file=storage.per_file)
    teacher = random_teacher("resnet8", ("ant", "bee"))
    return AugmentedBatches(settled, teacher, images, seed=3, storage=storage)


def test_a_pass_goes_through_the_stored_images() -> None:
    images = torch.arange(24).byte().view(24, 1, 1, 1).expand(24, 3, 8, 8)
    source = batches(student(per_epoch="stored", batch=3), images, Storage(per_file=4))
    seen: list[list[int]] = []
    for epoch in range(30):
        found = torch.cat([batch.images for batch in source.epoch(epoch)])
        levels = source.teacher.denormalize(found)[:, 0, 0, 0].mul(255).round().int()
        assert sorted((levels // 4).tolist()) == [0, 1, 2, 3, 4, 5]
        seen.append((levels % 4).tolist())
    assert len(source) == 2
    counts = torch.tensor(seen).flatten().bincount(minlength=4)
    assert counts.min() > 25
    assert len(batches(student(batch=3), images, Storage(per_file=4))) == 8


@pytest.mark.parametrize("kept", [True, False])
def test_some_images_are_seen_as_whole_mosaics(kept: bool) -> None:
    images = torch.arange(24).byte().view(24, 1, 1, 1).expand(24, 3, 8, 8)
    mosaics = (100 + torch.arange(6)).byte().view(6, 1, 1, 1).expand(6, 3, 8, 8)
    source = batches(student(whole=0.25, batch=24), images, Storage(4, mosaics))
    if not kept:
        source.normalized = None
    whole = 0
    for epoch in range(40):
        (batch,) = source.epoch(epoch)
        levels = source.teacher.denormalize(batch.images)[:, 0, 0, 0].mul(255).round().int()
        cells = levels[levels < 100]
        assert len(cells.unique()) == len(cells)
        files = levels[levels >= 100] - 100
        missing = sorted(set(range(24)) - set(cells.tolist()))
        assert sorted(files.tolist()) == [row // 4 for row in missing]
        whole += len(files)
    assert 0.2 < whole / (40 * 24) < 0.3


def test_sets_without_tiles_are_seen_as_without_whole() -> None:
    images = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    plain, whole = (batches(student(whole=share), images, Storage()) for share in (0.0, 0.25))
    for one, other in zip(plain.epoch(0), whole.epoch(0), strict=True):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    ("images", "batch"),
    [(4, 4), (10, 10), (11, 11), (60, 50), (500, 50), (501, 100), (20_000, 100), (20_001, 200)],
)
def test_the_batch_by_the_number_of_images(images: int, batch: int) -> None:
    assert batch_by_images(images) == batch


def test_a_pass_over_stored_images_has_fewer_steps() -> None:
    config = student(steps=None, epochs=10, batch="by_images", per_epoch="stored")
    cells, control = settle_student(config, 80, 2, per_file=4), settle_student(config, 20, 2)
    assert (cells.images, cells.batch, cells.training_steps) == (20, 20, 10)
    assert (cells.images, cells.training_steps) == (control.images, control.training_steps)
    assert protocol_hash(cells) == protocol_hash(control)
    assert settle_student(config.model_copy(update={"per_epoch": "seen"}), 80, 2, per_file=4).images == 80
    assert "10 epochs in batches of 20 of the stored images" in protocol_text(cells)
    assert "whole stored images at 0.25" in protocol_text(student(whole=0.25))


def test_whole_mosaics_have_no_stored_labels() -> None:
    with pytest.raises(ValidationError, match=r"whole shows stored images of several tiles.*got 0.25"):
        student(whole=0.25, labels="stored")


# -- the method --------------------------------------------------------------------------------------


def test_cim_is_declared_for_all_data_sets() -> None:
    for name, layer, pad, network, epochs in (
        ("cifar10", "embedding", 4, "resnet18_small", 1000),
        ("cifar100", "embedding", 4, "resnet18_small", 1000),
        ("tiny", "embedding", 8, "resnet18_small", 1000),
        ("imagenette", "stages.1", 28, "resnet18", 1000),
        ("imagenet1k", "stages.1", 28, "resnet18", 300),
    ):
        recipe = resolve(f"{name}-cim").recipe
        cim = recipe.arms["cim"]
        assert cim.terms.pairs.layer == layer
        assert (cim.augment.pad, cim.augment.cutout) == (pad, 0.5)
        assert cim.formation == CELLS
        # a step of 0.01 in colors from 0 to 1, and as much decay of what was added
        deviation = sum(recipe.teacher.std) / 3
        assert cim.lr * deviation == pytest.approx(0.01, rel=0.01)
        assert cim.lr * cim.decay == pytest.approx(1e-4, rel=0.02)
        assert (recipe.student.network, recipe.student.epochs) == (network, epochs)
        assert recipe.student.whole == 0.25
    assert resolve("imagenet1k-cim", ["ipc=100"]).recipe.arms["cim"].init_first == 500
    assert resolve("imagenet1k-cim", ["ipc=200"]).recipe.arms["cim"].init_first == 1000


@pytest.mark.parametrize("init", ["noise", "real", "rded"])
def test_the_first_images_are_of_a_selection(init: str) -> None:
    with pytest.raises(ValidationError, match=f"init_first limits what a selection .* but init is {init}"):
        Method.model_validate({"init": init, "init_first": 5})


# -- a run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mosaics(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CIM, and of its selection alone, with four digits in a stored image; read only."""
    out = tmp_path_factory.mktemp("mosaics") / "out"
    (out.parent / "own.yaml").write_text(
        (finished.parent / "tiny.yaml").read_text().partition("arms:")[0]
        + "arms:\n"
        + "  cim: {method: cim, init_first: 9, augment: {pad: 1}, steps: 20}\n"
        + "  start: {method: cim, init_first: 9, steps: 0}\n"
        + "recover: {unit_images: 8}\n"
        + "student: {protocol: cim, network: resnet8, epochs: 3, seeds: 1, evaluations: 1}\n"
    )
    given = [f"teacher.weights={finished / 'teacher.safetensors'}", "metrics.full_set=false"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["run", str(out.parent / "own.yaml"), "--out", str(out), *given]) == 0
    return out


def stored_of(run: Path, arm: str, names: Sequence[str]) -> Tensor:
    files = [run / "images" / arm / name / f"{k:05d}.png" for name in names for k in range(2)]
    assert len(list((run / "images" / arm).glob("*/*"))) == len(files)
    return torch.stack([decode_image(str(file)) for file in files])


def test_a_run_stores_mosaics_and_everything_reads_their_cells(mosaics: Path, tmp_path: Path) -> None:
    names, metrics = [str(c) for c in range(10)], json.loads((mosaics / "metrics.json").read_text())
    for arm in ("cim", "start"):
        stored = stored_of(mosaics, arm, names)
        found = open_set(mosaics, arm, channels=1)
        assert torch.equal(found.images, unpack(stored, CELLS))
        assert found.storage.per_file == 4
        assert found.storage.mosaics is not None
        assert torch.equal(found.storage.mosaics, stored)
        assert metrics["arms"][arm]["seen"] == 8
        for c in range(10):
            choice = json.loads((mosaics / "recover" / arm / "initial" / f"{c:05d}.json").read_text())
            assert len(choice) == 8
            assert len({position for (position,) in choice}) == 8
            assert max(choice)[0] - min(choice)[0] < 9  # of the first nine images of the class
    assert not torch.equal(stored_of(mosaics, "cim", names), stored_of(mosaics, "start", names))
    losses = json.loads((mosaics / "recover" / "cim" / "unit_00000.json").read_text())["losses"]
    assert losses[-1]["pairs"] < losses[0]["pairs"]
    page = (mosaics / "report.html").read_text()
    assert "4 images as tiles of one" in page
    command = [
        "export",
        str(mosaics),
        "--arm",
        "cim",
        "--to",
        "imagefolder",
        "--out",
        str(tmp_path / "folder"),
    ]
    assert main(command) == 0
    assert len(list((tmp_path / "folder" / "train").glob("*/*"))) == 80


def test_an_evaluation_trains_the_students_of_the_run(mosaics: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    command = ["evaluate", str(mosaics), "--arm", "cim", "--seeds", "1", "--no-full-set", "--json", str(out)]
    assert main(command) == 0
    students = json.loads(out.read_text())["students"]
    assert {each["arm"] for each in students} == {"cim", "random"}
    for each in students:
        known = json.loads((mosaics / "students" / each["arm"] / "seed_0.json").read_text())
        assert each["last"] == known["last"]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (
            "arms.cim.formation.images=5",
            "kind cells stores f x f images in one, got images 5; set it to 4 or 9",
        ),
        ("arms.cim.formation.luma=0.5", "kind cells keeps no frequencies, got luma 0.5"),
        ("arms.cim.formation.images=81", "into 9 x 9 tiles of 1 x 1, so the last ones lie beyond the image"),
        (
            "arms.cim.init_first=7",
            "init_first is 7, but 8 real images of a class are chosen for ipc 2; set it to 8",
        ),
        ("arms.cim.init=noise", "init_first limits what a selection such as confident chooses from"),
        ("arms.cim.terms.pairs.layer=stages.7", "has no layer 'stages.7' (did you mean 'stages."),
        (
            "arms.cim.terms.pairs.layer=stage.1",
            "layer must be embedding, blocks.N or stages.N, got 'stage.1'",
        ),
        ("arms.cim.formation=null", "terms.pairs alone moves nothing"),
        ("student.labels=stored", "whole shows stored images of several tiles, which have no stored labels"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    mosaics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, text: str
) -> None:
    recipe = str(mosaics.parent / "own.yaml")
    assert main(["run", recipe, "--out", str(tmp_path / "out"), override]) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
