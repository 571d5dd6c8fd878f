"""Stored labels: whose they are, how they are kept and read, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from views import CUTMIX, SHIFT, N, one_by_one, random_images

from fastdd.config import Labels, Student
from fastdd.errors import InputError
from fastdd.labels import (
    Augmentation,
    LabelManifest,
    Replay,
    StoredLabels,
    average_logits,
    draw_views,
    images_fingerprint,
    label_views,
    plan_labels,
    render_views,
)
from fastdd.labels.files import label_path
from fastdd.models.build import build
from fastdd.protocols import settle_student
from fastdd.teachers import Card, Teacher

CLASSES = 4


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images()


def small_teacher(seed: int = 0) -> Teacher:
    torch.manual_seed(seed)
    network = build("resnet8", CLASSES).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand_like(module.running_mean)  # type: ignore[arg-type]
    card = Card("resnet8", tuple("abcd"), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Teacher(network, card)


def planned(images: Tensor, **changes: Any) -> LabelManifest:
    manifest = LabelManifest(
        images=images_fingerprint(images),
        teachers=("t",),
        classes=CLASSES,
        samples=N,
        epochs=3,
        augmentation=CUTMIX,
        seed=5,
    )
    return replace(manifest, **changes)


# -- labels on disk --------------------------------------------------------------------------------


def test_labels_are_the_teacher_s_of_what_is_shown(images: Tensor, tmp_path: Path) -> None:
    teacher = small_teacher()
    labels = label_views({"t": teacher}, images, tmp_path / "l", planned(images), name="x")
    assert labels.epochs == [0, 1, 2]
    ids = torch.tensor([20, 1, 9, 4, 11])
    for epoch in labels.epochs:
        views, logits = labels.get(epoch, ids)
        shown = one_by_one(teacher.normalize(images), CUTMIX, epoch)
        wanted = teacher.network(torch.stack([shown[i] for i in ids.tolist()]))
        torch.testing.assert_close(logits, wanted, rtol=2**-10, atol=1e-3)
        torch.testing.assert_close(
            render_views(teacher.normalize(images), views)[2], shown[9], rtol=0, atol=1e-5
        )
    batches = list(labels.batches(4, seed=0, batch=5))
    assert [len(batch) for _, batch in batches] == [5, 5, 5, 5, 3]
    assert labels.steps("shuffle", 5) == 5
    assert {epoch for epoch, _ in batches} == {1}  # the labelled epochs come again
    assert sorted(torch.cat([batch for _, batch in batches]).tolist()) == list(range(N))


@pytest.mark.parametrize(
    ("file_bytes", "files"), [(1, [[0], [1], [2]]), (300, [[0, 1], [2]]), (1000, [[0, 1, 2]])]
)
def test_labels_that_were_killed_continue(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int, files: list[list[int]]
) -> None:
    monkeypatch.setattr("fastdd.labels.manifest.FILE_BYTES", file_bytes)
    teacher, made = {"t": small_teacher()}, tmp_path / "l"
    how = planned(images, mode="train", parts=2)
    assert how.files == files
    label_views(teacher, images, made, how, name="x")
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    lost = label_path(made, files[-1])
    lost.unlink()
    with pytest.raises(InputError, match=f"lack 1 of {len(files)} files, the first is {lost.name}"):
        StoredLabels.open(made)
    label_views(teacher, images, made, how, name="x")
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    with pytest.raises(InputError, match="with another seed"):
        label_views(teacher, images, made, planned(images, mode="train", parts=2, seed=6), name="x")


@pytest.mark.parametrize("file_bytes", [1, 1 << 16])
@pytest.mark.parametrize("how", [CUTMIX, SHIFT, replace(SHIFT, mix="none"), replace(CUTMIX, mix="mixup")])
def test_stored_views_are_those_of_the_seed(
    images: Tensor, tmp_path: Path, how: Augmentation, monkeypatch: pytest.MonkeyPatch, file_bytes: int
) -> None:
    monkeypatch.setattr("fastdd.labels.manifest.FILE_BYTES", file_bytes)
    made = planned(images, augmentation=how, keep=0.5, choice="random")
    drawn = label_views({"t": small_teacher()}, images, tmp_path / "seed", made, name="x")
    kept = label_views(
        {"t": small_teacher()}, images, tmp_path / "kept", replace(made, views="stored"), name="x"
    )
    assert len(drawn.manifest.pool.kept) == 3
    replays: tuple[Replay, ...] = ("draw", "cycle")
    for replay in replays:
        assert drawn.steps(replay) == len(list(drawn.batches(0, 3, replay))) == 2
        for epoch, ids in drawn.batches(0, 3, replay):
            (seen, logits), (stored, same) = drawn.get(epoch, ids), kept.get(epoch, ids)
            assert len(ids) == 8
            assert seen.digest() == stored.digest()
            assert torch.equal(logits, same)
    with pytest.raises(InputError, match="hold parts of epochs"):
        next(iter(drawn.batches(0, 3)))


def test_a_machine_that_draws_otherwise_is_told(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_views({"t": small_teacher()}, images, tmp_path / "l", planned(images), name="x")
    monkeypatch.setattr("fastdd.labels.manifest.draw_views", lambda seed, *rest: draw_views(seed + 1, *rest))
    with pytest.raises(InputError, match="drawn otherwise by this machine"):
        StoredLabels.open(tmp_path / "l").views(0)


def test_short_epochs_share_a_file_so_that_headers_are_few(images: Tensor, tmp_path: Path) -> None:
    how = planned(images, epochs=700, form="int4")
    labels = label_views({"t": small_teacher()}, images, tmp_path / "l", how, name="x")
    assert len(list((tmp_path / "l").glob("*.safetensors"))) == len(how.files) == 2
    assert (
        how.bytes == 700 * N * 6 < labels.bytes < 1.2 * how.bytes
    )  # 4 classes: 2 bytes of levels, 4 of their range
    exact = label_views(
        {"t": small_teacher()}, images, tmp_path / "exact", replace(how, form="fp16", epochs=3), name="x"
    )
    ids = torch.arange(N)
    (seen, coarse), (same, fine) = labels.get(2, ids), exact.get(2, ids)
    assert seen.digest() == same.digest()
    assert ((coarse - fine).abs().amax(1) <= (fine.amax(1) - fine.amin(1)) / 15 + 1e-2).all()


def test_labels_of_something_else_are_refused(images: Tensor, tmp_path: Path) -> None:
    label_views({"t": small_teacher()}, images, tmp_path / "l", planned(images), name="x")
    with pytest.raises(InputError, match="of other images: fingerprint"):
        StoredLabels.open(tmp_path / "l", images=images_fingerprint(images.flip(0)))
    with pytest.raises(InputError, match="have 4 classes, expected 10"):
        StoredLabels.open(tmp_path / "l", classes=10)
    with pytest.raises(InputError, match="holds no labels"):
        StoredLabels.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="have no epoch 7"):
        StoredLabels.open(tmp_path / "l").views(7)
    (tmp_path / "l" / "epochs-00000-00002.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"epochs-00000-00002.safetensors is damaged"):
        StoredLabels.open(tmp_path / "l").views(0)


def test_a_manifest_that_lacks_something_or_holds_more_is_named(images: Tensor, tmp_path: Path) -> None:
    label_views({"t": small_teacher()}, images, tmp_path / "l", planned(images), name="x")
    path = tmp_path / "l" / "manifest.json"
    content = json.loads(path.read_text())
    for changed, message in (
        ({key: value for key, value in content.items() if key != "classes"}, "classes: field required"),
        ({**content, "shade": 1}, "shade: unexpected"),
        ({**content, "form": "int5"}, "form: input should be 'fp16'"),
        ({**content, "schema": 1}, "is of another version"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=rf"manifest.json (is damaged \()?({message})"):
            StoredLabels.open(tmp_path / "l")


def test_a_full_disk_is_told_before(images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * N * 2 * CLASSES - 1))
    with pytest.raises(InputError, match=r"labels take .* GB and .* has .* GB left"):
        label_views({"t": small_teacher()}, images, tmp_path / "l", planned(images), name="x")
    assert not (tmp_path / "l").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * N * 2 * CLASSES))
    label_views({"t": small_teacher()}, images, tmp_path / "l", planned(images), name="x")


# -- teachers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2])
def test_a_teacher_in_train_mode_sees_each_part_alone(images: Tensor, tmp_path: Path, parts: int) -> None:
    teacher = small_teacher()
    state = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    made = planned(images, mode="train", parts=parts)
    labels = label_views({"t": teacher}, images, tmp_path / "l", made, name="x")
    assert not teacher.network.training
    assert all(torch.equal(value, state[name]) for name, value in teacher.network.state_dict().items())
    views = labels.views(0)
    ids = views.ids[views.groups == 1]
    shown, logits = labels.get(0, ids)
    batch = render_views(teacher.normalize(images), shown)
    teacher.network.train()
    wanted = torch.cat([teacher.network(part) for part in batch.split(8 // parts)])
    torch.testing.assert_close(logits, wanted, rtol=2**-10, atol=2e-3)


def test_several_teachers_are_averaged() -> None:
    small, large = torch.randn(6, 4), 50 * torch.randn(6, 4)
    torch.testing.assert_close(average_logits([small, large], "mean"), (small + large) / 2)
    sizes = [float(z.double().square().sum().sqrt()) for z in (small, large)]
    size = sum(sizes) / 2
    wanted = sum(z.double() * size / s for z, s in zip((small, large), sizes, strict=True)) / 2
    torch.testing.assert_close(average_logits([small, large], "norm").double(), wanted, rtol=1e-6, atol=1e-6)


def test_a_teacher_s_nan_is_named(images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdd.labels.manifest.FILE_BYTES", 1)

    class Sick(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            logits = torch.zeros(len(x), CLASSES)
            if self.calls == 5:  # the second batch of epoch 1
                logits[3, 1] = torch.nan
            return logits

    class Member(NamedTuple):
        network: nn.Module
        card: Card

        def normalize(self, images: Tensor) -> Tensor:
            return images.float()

    made = planned(images)
    sample = int(made.draw(1).ids[11])
    teachers: Any = {"well": small_teacher(), "sick": Member(Sick(), small_teacher().card)}
    with pytest.raises(InputError, match=f"teacher sick gives logits .* for sample {sample} in epoch 1"):
        label_views(teachers, images, tmp_path / "l", made, name="x")
    assert [path.name for path in sorted((tmp_path / "l").glob("epoch*"))] == [
        "epochs-00000-00000.safetensors"
    ]


# -- recipes ---------------------------------------------------------------------------------------


def test_a_recipe_says_what_is_labelled(images: Tensor) -> None:
    config = Labels(per="view", form="topk", topk=3, keep=0.5, replay="draw", parts=2)
    protocol = Student(steps=50, batch=10, scale=(0.25, 1), mix="cutmix", mix_alpha=1.0, teacher_mode="train")

    def made(config: Labels, protocol: Student) -> LabelManifest:
        student = settle_student(protocol, N, CLASSES)
        return plan_labels(config, student, images, classes=CLASSES, teachers=("a",), seed=7)

    assert made(config, protocol) == LabelManifest(
        images=images_fingerprint(images),
        teachers=("a",),
        classes=CLASSES,
        samples=N,
        epochs=17,
        augmentation=Augmentation((16, 16), scale=(0.25, 1), flip=0.5, mix="cutmix", mix_alpha=1.0, batch=10),
        seed=7,
        keep=0.5,
        form="topk",
        k=3,
        temperature=30,
        mode="train",
        parts=2,
    )
    with pytest.raises(InputError, match=r"set labels.replay to once, draw or cycle"):
        made(Labels(keep=0.5), protocol)
    with pytest.raises(InputError, match="records crops, flips and mixing alone"):
        made(config, Student(shuffle_patches=2))
