"""FKD labels, in and out: against a reader and a writer that follow the description of the released
layout."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import output
from released_fkd import BATCH, CLASSES, EPOCHS, NUMPY, orders, pil, read_released, write_released
from torch import Tensor

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.labels import (
    Augmentation,
    LabelForm,
    LabelManifest,
    StoredLabels,
    export_fkd,
    images_fingerprint,
    import_fkd,
    label_views,
    mix_views,
    render_views,
    render_views_with_pil,
)
from fastdd.models.build import build
from fastdd.teachers import Card, Teacher

N, SIZE = 21, 32
CUTMIX = Augmentation((SIZE, SIZE), scale=(0.08, 1.0), mix="cutmix", batch=BATCH, order="fkd")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(
        256, (N, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


# -- in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("indices", [False, True])
def test_released_labels_replay_exactly(images: Tensor, tmp_path: Path, mix: str, indices: bool) -> None:
    write_released(tmp_path / "fkd", images, mix, indices)
    labels = import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES)
    assert labels.manifest.augmentation.mix == mix
    for epoch in range(EPOCHS):
        for number in range(3):
            wanted, logits, samples = read_released(tmp_path / "fkd", images, epoch, number)
            views, seen = labels.get(epoch, torch.tensor(samples))
            assert torch.equal(seen, logits.float())
            exact = render_views_with_pil(images, replace(views, partners=None)).float() / 255
            shown = render_views(images.float() / 255, views)
            assert float((shown - wanted).abs().max()) < 1.1 / 255  # PIL rounds to whole levels twice
            if mix == "none":
                assert torch.equal(exact, wanted)
            else:
                assert views.partners is not None
                partners = exact[[samples.index(p) for p in views.partners.tolist()]]
                torch.testing.assert_close(mix_views(exact, partners, views), wanted, rtol=0, atol=1e-7)


def test_imported_labels_replay_in_any_batch(images: Tensor, tmp_path: Path) -> None:
    write_released(tmp_path / "fkd", images)
    labels = import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES, form=LabelForm("int8"))
    whole = labels.views(1)
    _, logits = labels.get(1, whole.ids)
    shown = render_views(images.float(), whole)
    for _, ids in labels.batches(1, seed=0, batch=5):
        views, some = labels.get(1, ids)
        rows = whole.find(ids)
        assert torch.equal(some, logits[rows])
        torch.testing.assert_close(render_views(images.float(), views), shown[rows], rtol=0, atol=1e-3)


@pytest.mark.parametrize("file_bytes", [1, 600])
def test_an_import_that_was_killed_continues(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int
) -> None:
    monkeypatch.setattr("fastdd.labels.manifest.FILE_BYTES", file_bytes)
    write_released(tmp_path / "fkd", images)
    import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES)
    before = {path.name: path.read_bytes() for path in (tmp_path / "l").iterdir()}
    assert len(before) > 2
    min((tmp_path / "l").glob("epochs*")).unlink()
    import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES)
    assert {path.name: path.read_bytes() for path in (tmp_path / "l").iterdir()} == before


def test_a_pruned_generation(images: Tensor, tmp_path: Path) -> None:
    write_released(tmp_path / "fkd", images)
    for epoch in range(EPOCHS):  # which drops short batches
        (tmp_path / "fkd" / f"epoch_{epoch}" / "batch_2.tar").unlink()
    (tmp_path / "fkd" / f"epoch_{EPOCHS - 1}" / "batch_1.tar").unlink()
    labels = import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES)
    assert labels.manifest.pool.kept == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    for epoch, ids in labels.batches(0, 0, "draw"):
        assert ids.tolist() in orders(N, BATCH, EPOCHS)[epoch]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_file_that_would_run_something_is_refused(images: Tensor, tmp_path: Path) -> None:
    write_released(tmp_path / "fkd", images)
    path = tmp_path / "fkd" / "epoch_1" / "batch_0.tar"
    torch.save([torch.zeros(8, 4), Evil(tmp_path / "mark")], path)
    torch.load(path, weights_only=False)  # it works
    (tmp_path / "mark").rmdir()
    with pytest.raises(InputError, match=r"epoch_1/batch_0.tar is no FKD batch, or holds more than tensors"):
        import_fkd(tmp_path / "fkd", tmp_path / "l", images, CLASSES)
    assert not (tmp_path / "mark").exists()


def test_damaged_and_missing_files(images: Tensor, tmp_path: Path) -> None:
    fkd = tmp_path / "fkd"

    def refused(message: str, images: Tensor = images, classes: int = CLASSES, **more: Any) -> None:
        with pytest.raises(InputError, match=message):
            import_fkd(fkd, tmp_path / "l", images, classes, **more)
        for made in (tmp_path / "l").glob("*"):
            made.unlink()

    refused("is no folder")
    write_released(fkd, images)
    refused("labels 21 images .* but the set has 20", images[:20])
    refused("logits of 5 classes, expected 10", classes=10)
    refused("windows of images of another size than 24 x 32", images[:, :, :24])
    path = fkd / "epoch_1" / "batch_1.tar"
    content = path.read_bytes()
    path.unlink()
    refused(r"epoch_1/batch_1.tar is missing")
    path.write_bytes(content[: len(content) // 2])
    refused("is no FKD batch")
    with torch.serialization.safe_globals(NUMPY):
        path.write_bytes(content)
        batch = torch.load(path, weights_only=True)
    for place, value, message in (
        (
            5,
            torch.full((8, CLASSES), torch.nan, dtype=torch.float16),
            r"batch_1.tar gives logits .* in epoch 1",
        ),
        (0, torch.zeros(3, 4), "is not of the FKD layout"),
        (2, torch.zeros(8, dtype=torch.int64), "partners are no permutation"),
        (4, None, "mixed otherwise than the first"),
    ):
        torch.save([*batch[:place], value, *batch[place + 1 :]], path)
        refused(message)
    torch.save({"logits": 1}, path)
    refused("is not of the FKD layout")


def test_another_order_is_found_out(tmp_path: Path) -> None:
    many = torch.randint(256, (120, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_released(tmp_path / "fkd", many)
    truth = torch.arange(120) % CLASSES
    import_fkd(tmp_path / "fkd", tmp_path / "l", many, CLASSES, truth=truth)
    for name, wrong, epoch in (
        ("set", {"truth": truth[torch.randperm(120)]}, 0),
        ("order", {"truth": truth, "permutations": 1}, 1),  # the first one of both is the same
    ):
        with pytest.raises(InputError, match=f"epoch {epoch} of .* fit the images no better than chance"):
            import_fkd(tmp_path / "fkd", tmp_path / name, many, CLASSES, **wrong)


# -- out -------------------------------------------------------------------------------------------


def made_labels(folder: Path, images: Tensor, **changes: Any) -> StoredLabels:
    torch.manual_seed(0)
    card = Card("resnet8", tuple("abcde"), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    teacher = Teacher(build("resnet8", CLASSES).eval(), card)
    manifest = LabelManifest(
        images=images_fingerprint(images),
        teachers=("t",),
        classes=CLASSES,
        samples=N,
        epochs=EPOCHS,
        augmentation=CUTMIX,
        seed=3,
    )
    return label_views({"t": teacher}, images, folder, replace(manifest, **changes), name="x")


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_a_released_reader_replays_what_we_write(images: Tensor, tmp_path: Path, mix: Any) -> None:
    labels = made_labels(tmp_path / "l", images, augmentation=replace(CUTMIX, mix=mix))
    assert export_fkd(labels, tmp_path / "fkd") == 9
    for epoch in range(EPOCHS):
        for number in range(3):
            seen, logits, samples = read_released(tmp_path / "fkd", images, epoch, number)
            views, wanted = labels.get(epoch, torch.tensor(samples))
            assert torch.equal(logits.float(), wanted)
            assert float((render_views(images.float() / 255, views) - seen).abs().max()) < 1.1 / 255
            if mix == "none":
                assert torch.equal(render_views_with_pil(images, views).float() / 255, seen)


def test_out_and_in_again_is_the_same(images: Tensor, tmp_path: Path) -> None:
    labels = made_labels(tmp_path / "l", images, augmentation=replace(CUTMIX, order="seed"))
    with pytest.raises(InputError, match="made in an order of their own"):
        export_fkd(labels, tmp_path / "fkd")
    export_fkd(labels, tmp_path / "fkd", indices=True)
    again = import_fkd(tmp_path / "fkd", tmp_path / "again", images, CLASSES)
    for epoch in range(EPOCHS):
        (views, logits), (seen, same) = (x.get(epoch, torch.arange(N)) for x in (labels, again))
        assert torch.equal(logits, same)
        assert seen.digest() == views.digest()
    with pytest.raises(InputError, match="is not empty"):
        export_fkd(labels, tmp_path / "fkd", indices=True)


def test_an_export_is_whole_or_absent(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, written = made_labels(tmp_path / "l", images), []

    def fail_late(path: Path, record: object) -> None:
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fastdd.labels.fkd.write_record", fail_late)
        with pytest.raises(InputError, match=r"no space left for .*fkd"):
            export_fkd(labels, tmp_path / "fkd")
    assert [path.name for path in tmp_path.iterdir()] == ["l"]
    assert export_fkd(labels, tmp_path / "fkd") == 9


def test_what_the_layout_cannot_hold(images: Tensor, tmp_path: Path) -> None:
    for name, how in (
        ("pad", replace(CUTMIX, scale=None, pad=2)),
        ("each", replace(CUTMIX, mix_per="sample")),
    ):
        with pytest.raises(InputError, match="FKD holds windows inside of the image and one ratio a batch"):
            export_fkd(made_labels(tmp_path / name, images, augmentation=how), tmp_path / "fkd")
    random = made_labels(tmp_path / "random", images, keep=0.5, choice="random")
    with pytest.raises(InputError, match="numbers batches without gaps"):
        export_fkd(random, tmp_path / "fkd")


def test_labels_are_the_same_in_another_process(images: Tensor, tmp_path: Path) -> None:
    labels = made_labels(tmp_path / "l", images)
    torch.save(images, tmp_path / "images.pt")
    program = f"""
import torch
from fastdd.labels import StoredLabels, render_views
images = torch.load({str(tmp_path / "images.pt")!r}, weights_only=True)
labels = StoredLabels.open({str(tmp_path / "l")!r})
views, logits = labels.get(2, torch.tensor([17, 4, 5]))
torch.save([views.digest(), render_views(images.float(), views), logits], {str(tmp_path / "seen.pt")!r})
"""
    output("-c", program)
    digest, pixels, logits = torch.load(tmp_path / "seen.pt", weights_only=True)
    views, wanted = labels.get(2, torch.tensor([17, 4, 5]))
    assert views.digest() == digest
    assert torch.equal(wanted, logits)
    torch.testing.assert_close(render_views(images.float(), views), pixels, rtol=0, atol=1e-3)


# -- the command line ------------------------------------------------------------------------------


def test_import_show_and_export(images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, image in enumerate(images):  # 5 classes of 5, 4, 4, 4 and 4 images, in the order of their names
        folder = tmp_path / "set" / f"new{i * CLASSES // N:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        pil(image).save(folder / f"class{i * CLASSES // N:03d}_id{i:03d}.png")
    write_released(tmp_path / "fkd", images)
    fkd, made, out = (str(tmp_path / name) for name in ("fkd", "made", "out"))
    assert main(["labels", "import-fkd", fkd, str(tmp_path / "set"), "--out", made, "--form", "int4"]) == 0
    assert main(["labels", "show", made]) == 0
    shown = capsys.readouterr().out
    assert "63 in int4" in shown
    assert main(["labels", "export-fkd", made, "--out", out]) == 0
    for epoch, number in ((0, 0), (2, 2)):
        ours = read_released(tmp_path / "out", images, epoch, number)
        theirs = read_released(tmp_path / "fkd", images, epoch, number)
        assert torch.equal(ours[0], theirs[0])  # pixel by pixel
        span = theirs[1].float().amax(1) - theirs[1].float().amin(1)
        assert bool(((ours[1] - theirs[1]).float().abs().amax(1) <= span / 29).all())
    assert main(["labels", "export-fkd", str(tmp_path / "set"), "--out", out + "2"]) == 2
    assert "holds no labels" in capsys.readouterr().err
