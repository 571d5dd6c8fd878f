"""Forms of labels that need the whole set: low rank and a product quantizer, against float64 references."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastdd.cli import main
from fastdd.config import Labels, Student
from fastdd.config.validation import validated
from fastdd.errors import InputError
from fastdd.evaluate import ReplayedBatches
from fastdd.labels import (
    Augmentation,
    Form,
    LabelForm,
    LabelManifest,
    StoredLabels,
    export_fkd,
    images_fingerprint,
    import_fkd,
    is_whole,
    label_views,
    plan_labels,
)
from fastdd.labels.encoding import decode_whole_set, encode_low_rank, find_codebook, low_rank, quantize
from fastdd.labels.files import EXACT, LabelWriter, label_path
from fastdd.models.build import build
from fastdd.protocols import settle_student
from fastdd.teachers import Card, Teacher

CLASSES, N, EPOCHS = 4, 12, 6
VIEWS = Augmentation((8, 8), scale=(0.25, 1.0), batch=5, order="fkd")


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    return (a * torch.arange(math.prod(shape), dtype=torch.float64) + b).sin().view(shape)


LOGITS = wave(4, 5, a=0.9) + 0.3 * torch.arange(5)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    card = Card("convnet1", tuple("abcd"), 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Teacher(build("convnet1", CLASSES).eval().requires_grad_(False), card)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (N, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def planned(images: Tensor, **changes: Any) -> LabelManifest:
    manifest = LabelManifest(
        images=images_fingerprint(images),
        teachers=("t",),
        classes=CLASSES,
        samples=N,
        epochs=EPOCHS,
        augmentation=VIEWS,
        seed=5,
    )
    return replace(manifest, **changes)


def labelled(teacher: Teacher, images: Tensor, folder: Path, **changes: Any) -> StoredLabels:
    return label_views({"t": teacher}, images, folder, planned(images, **changes), name="x")


def all_logits(labels: StoredLabels) -> Tensor:
    """[E, N, C], in the order of the samples."""
    return torch.stack([labels.get(epoch, torch.arange(N))[1] for epoch in labels.epochs])


# -- the numbers ----------------------------------------------------------------------------------


def test_low_rank_is_the_truncated_decomposition_beside_the_mean() -> None:
    found = low_rank(LOGITS[None], 1)
    near = found["mean"] + (found["coefficients"] @ found["basis"])[0]
    wanted = [0.3518512, 0.7837735, 0.8495856, 0.7265163, 0.7347360]
    assert near[0].tolist() == pytest.approx(wanted, abs=1e-7)
    assert float(torch.linalg.vector_norm(near - LOGITS)) == pytest.approx(1.8755735, abs=1e-7)


@pytest.mark.parametrize("shape", [(3, 6, 9), (3, 9, 6), (2, 30, 5)])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_low_rank_is_that_of_the_singular_value_decomposition(shape: tuple[int, int, int], rank: int) -> None:
    logits = 5 * wave(*shape, a=0.37, b=0.2)
    logits[0] = logits[0, :1]  # an image whose views have one label
    found = low_rank(logits, rank)
    rest = logits - logits.mean(1, keepdim=True)
    U, S, V = torch.linalg.svd(rest, full_matrices=False)
    wanted = (U[:, :, :rank] * S[:, None, :rank]) @ V[:, :rank]
    torch.testing.assert_close(found["coefficients"] @ found["basis"], wanted, rtol=0, atol=1e-7)
    stored = encode_low_rank(logits, rank)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    views = {
        "mean": stored["mean"].repeat_interleave(shape[1], 0),
        "basis": stored["basis"].repeat_interleave(shape[1], 0),
        "coefficients": stored["coefficients"].flatten(0, 1),
    }
    decoded = decode_whole_set(views, shape[2]).view(shape).double()
    torch.testing.assert_close(decoded, wanted + logits.mean(1, keepdim=True), rtol=0, atol=2e-2)


def test_codes_are_the_nearest_centers() -> None:
    centers = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    assert quantize(LOGITS[:, :2], centers, 1)[:, 0].tolist() == [1, 0, 0, 1]
    logits = torch.randn(400, 7, generator=torch.Generator().manual_seed(1))
    codebook = find_codebook(logits, 3, seed=4)
    assert (codebook.shape, codebook.dtype) == ((256, 7), torch.float16)
    codes = quantize(logits, codebook, 3)
    assert (codes.shape, codes.dtype) == ((400, 3), torch.uint8)
    decoded = decode_whole_set({"codes": codes, "codebook": codebook}, 7)
    for run in torch.arange(7).tensor_split(3):  # written out
        distances = (logits[:, None, run].double() - codebook[None, :, run].double()).square().sum(2)
        nearest = codebook[distances.argmin(1)][:, run].float()
        torch.testing.assert_close(decoded[:, run], nearest, rtol=0, atol=0)
    assert torch.equal(find_codebook(logits, 3, seed=4), codebook)


def test_few_labels_are_their_own_centers() -> None:
    logits = torch.arange(12.0).view(4, 3)
    codebook = find_codebook(logits, 2, seed=0)
    decoded = decode_whole_set({"codes": quantize(logits, codebook, 2), "codebook": codebook}, 3)
    assert torch.equal(decoded, logits)


@pytest.mark.parametrize(
    ("epochs", "classes", "rank", "each"),
    [
        (300, 1000, 1, 15.3),
        (300, 1000, 2, 24.0),
        (300, 1000, 5, 50.0),
        (300, 1000, 10, 93.3),
        (300, 1000, 20, 180.0),
        (30, 1000, 1, 135.3),
        (30, 1000, 2, 204.0),
        (30, 1000, 5, 410.0),
        (400, 100, 1, 3.0),
        (400, 100, 2, 5.5),
        (400, 100, 5, 13.0),
    ],
)
def test_bytes_of_low_rank_fall_with_the_views(epochs: int, classes: int, rank: int, each: float) -> None:
    manifest = LabelManifest(
        images="i",
        teachers=("t",),
        classes=classes,
        samples=100,
        epochs=epochs,
        augmentation=Augmentation((8, 8), batch=10),
        form="lowrank",
        rank=rank,
    )
    assert manifest.bytes / manifest.pool.labels == pytest.approx(each, abs=0.05)
    codes = replace(manifest, form="pq", codes=32)
    assert codes.bytes == 32 * 100 * epochs + 512 * classes


# -- on disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["seed", "stored"])
@pytest.mark.parametrize("form", ["lowrank", "pq"])
def test_stored_labels_are_those_of_the_references(
    teacher: Teacher, images: Tensor, tmp_path: Path, form: Form, views: str
) -> None:
    exact = labelled(teacher, images, tmp_path / "exact")
    made = labelled(teacher, images, tmp_path / "l", form=form, rank=2, codes=2, views=views)
    z = all_logits(exact)
    if form == "lowrank":
        near = low_rank(z.transpose(0, 1), 2)
        wanted = (near["mean"][:, None] + near["coefficients"] @ near["basis"]).transpose(0, 1)
    else:  # 72 labels have a center each
        wanted = z.double()
    torch.testing.assert_close(all_logits(made).double(), wanted, rtol=0, atol=4e-3)
    for epoch in made.epochs:
        assert made.views(epoch).digest() == exact.views(epoch).digest()
    names = sorted(path.name for path in (tmp_path / "l").iterdir())
    assert names == ["epochs-00000-00005.safetensors", "manifest.json"]
    (file,) = (tmp_path / "l").glob("*.safetensors")
    assert made.bytes == file.stat().st_size
    if views == "seed":
        assert 0 < made.bytes - made.manifest.bytes < 2000  # the header
    assert StoredLabels.open(tmp_path / "l").manifest == made.manifest


@pytest.mark.parametrize("form", ["lowrank", "pq"])
def test_labelling_that_was_killed_continues(
    teacher: Teacher, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    monkeypatch.setattr("fastdd.labels.manifest.FILE_BYTES", 1)
    how: dict[str, Any] = {"form": form, "rank": 2, "codes": 2}
    whole = labelled(teacher, images, tmp_path / "whole", **how)
    add, finish = LabelWriter.add, LabelWriter.finish

    def killed(writer: LabelWriter, *arguments: Any) -> None:
        if len(list((tmp_path / "l" / EXACT).glob("*"))) == 3:
            raise KeyboardInterrupt
        add(writer, *arguments)

    monkeypatch.setattr(LabelWriter, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        labelled(teacher, images, tmp_path / "l", **how)
    with pytest.raises(InputError, match="lack 1 of 1 files"):
        StoredLabels.open(tmp_path / "l")
    monkeypatch.setattr(LabelWriter, "add", add)

    def killed_late(writer: LabelWriter) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LabelWriter, "finish", killed_late)
    with pytest.raises(KeyboardInterrupt):
        labelled(teacher, images, tmp_path / "l", **how)
    assert len(list((tmp_path / "l" / EXACT).glob("*"))) == EPOCHS
    monkeypatch.setattr(LabelWriter, "finish", finish)
    labelled(teacher, images, tmp_path / "l", **how)
    (name,) = whole.manifest.files
    assert label_path(tmp_path / "l", name).read_bytes() == label_path(tmp_path / "whole", name).read_bytes()
    assert not (tmp_path / "l" / EXACT).exists()
    (tmp_path / "l" / EXACT).mkdir()  # as after a kill between the file and its end
    assert not is_whole(tmp_path / "l")
    labelled(teacher, images, tmp_path / "l", **how)
    assert is_whole(tmp_path / "l")


@pytest.mark.parametrize("form", ["lowrank", "pq"])
def test_students_and_layouts_read_them(
    teacher: Teacher, images: Tensor, tmp_path: Path, form: Form, capsys: pytest.CaptureFixture[str]
) -> None:
    made = labelled(teacher, images, tmp_path / "l", form=form, rank=2, codes=2)
    config = settle_student(Student(steps=4, batch=5, scale=(0.25, 1.0), mix="none"), N, CLASSES)
    for batch in ReplayedBatches(config, teacher, images, made, seed=3).epoch(1):
        assert batch.targets is not None
        assert batch.targets.isfinite().all()
    export_fkd(made, tmp_path / "fkd")
    back = import_fkd(tmp_path / "fkd", tmp_path / "fp16", images, CLASSES)
    torch.testing.assert_close(all_logits(back), all_logits(made), rtol=2**-10, atol=1e-3)
    stored = LabelForm(form, rank=2, codes=2)
    again = import_fkd(tmp_path / "fkd", tmp_path / "again", images, CLASSES, form=stored)
    torch.testing.assert_close(all_logits(again), all_logits(made), rtol=0, atol=1e-2)
    assert main(["labels", "show", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert ("lowrank 2" if form == "lowrank" else "pq, 2 codes of 256 centers") in said
    for name, value in (("rank", 4), ("codes", 5), ("rank", 0)):
        if (name == "rank") == (form == "lowrank"):
            wrong = replace(stored, **{name: value})
            with pytest.raises(InputError, match=name):
                import_fkd(tmp_path / "fkd", tmp_path / "no", images, CLASSES, form=wrong)


def test_pruned_labels_have_codes(teacher: Teacher, images: Tensor, tmp_path: Path) -> None:
    made = labelled(teacher, images, tmp_path / "l", form="pq", codes=CLASSES, keep=0.5)
    exact = labelled(teacher, images, tmp_path / "exact", keep=0.5)
    for epoch in made.epochs:
        ids = made.views(epoch).ids
        torch.testing.assert_close(made.get(epoch, ids)[1], exact.get(epoch, ids)[1])
    assert json.loads((tmp_path / "l" / "manifest.json").read_text())["codes"] == CLASSES
    export = tmp_path / "fkd"
    export_fkd(exact, export)
    with pytest.raises(InputError, match="form lowrank wants all"):
        import_fkd(export, tmp_path / "no", images, CLASSES, form=LabelForm("lowrank"))


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "lowrank"}, "form lowrank needs the labels of many views"),
        ({"form": "pq", "per": "image"}, "form pq needs the labels of many views"),
        ({"form": "lowrank", "per": "view", "keep": 0.5, "replay": "once"}, "needs all views of each image"),
    ],
)
def test_forms_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validated(Labels, values, "labels")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "lowrank", "rank": 2, "epochs": 2}, "got rank 2 for 2 epochs of 4 classes"),
        ({"form": "lowrank", "rank": 4}, "more views and classes than labels.rank"),
        ({"form": "pq", "codes": 5}, "labels.codes 5 cuts 4 classes into more runs than there are"),
    ],
)
def test_labels_without_room_for_a_form_are_refused(
    images: Tensor, values: dict[str, Any], message: str
) -> None:
    student = settle_student(Student(steps=30, batch=5), N, CLASSES)
    with pytest.raises(InputError, match=message):
        plan_labels(Labels(per="view", **values), student, images, classes=CLASSES, teachers=("t",), seed=7)
