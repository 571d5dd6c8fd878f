"""``fastdd.load``, the images of a run from Python, and the losses for loops of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import fastdd
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate import ReplayedBatches
from fastdd.export import export
from fastdd.labels import StoredLabels
from fastdd.run_folder import RunFolder, read_manifest, read_recipe
from fastdd.runs.result import RunResult
from fastdd.teachers import open_teacher

STORED = """\
ipc: 3
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
labels: {per: view, epochs: 2, batch: 10}
arms: {kmeans: {init: kmeans, steps: 0}}
student: {network: convnet1, labels: stored, steps: 6, batch: 10, pad: 1, flip: 0.5, seeds: 1}
metrics: {full_set: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with stored labels of views. Read only."""
    path = tmp_path_factory.mktemp("stored")
    (path / "stored.yaml").write_text(STORED)
    fastdd.run(path / "stored.yaml", path / "out")
    return path / "out"


def test_three_lines_load_a_run(folder: Path) -> None:
    data = fastdd.load(folder)
    images, labels = next(iter(DataLoader(data, 30)))
    assert images.shape == (30, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert torch.equal(labels, torch.arange(10).repeat_interleave(3))
    assert (len(data), data.classes[7]) == (30, "7")
    assert repr(data).startswith("LoadedSet(30 images of 10 classes, 1 x 8 x 8, '")
    doubled = fastdd.load(folder, transform=lambda image: image.float() * 2)
    assert torch.equal(doubled[4][0], data.images[4].float() * 2)


def test_views_are_what_the_runs_students_saw(folder: Path) -> None:
    run = RunFolder(folder)
    teacher = open_teacher(run.teacher(), torch.device("cpu"))
    recipe = read_recipe(run)
    data = fastdd.load(folder)
    stored = StoredLabels.open(run.labels("kmeans", "view"))
    from fastdd.protocols import settle_student

    protocol = settle_student(recipe.student, 30, 10)
    batches = ReplayedBatches(protocol, teacher, data.images, stored, seed=5)
    for epoch in (0, 1, 2):
        seen, mine = list(batches.epoch(epoch)), list(data.views(epoch, batch=10, seed=5))
        assert len(seen) == len(mine) == 3
        for theirs, (images, logits) in zip(seen, mine, strict=True):
            assert torch.equal(theirs.images, images)
            assert torch.equal(theirs.targets, logits)
    again = [
        logits for _, logits in data.views(2, batch=10, seed=5)
    ]  # the first epoch's views, in a new order
    first = torch.cat([logits for _, logits in data.views(0, batch=10)])
    views = stored.views(0)
    own, other = data.labels[views.ids], data.labels[views.ids if views.partners is None else views.partners]
    ratio = torch.ones(30) if views.ratios is None else views.ratios.float()
    wanted = torch.zeros(30, 10).scatter_add_(1, own[:, None], ratio[:, None])
    wanted.scatter_add_(1, other[:, None], 1 - ratio[:, None])
    told = list(data.views(0, batch=10, seed=5, shares=True))
    rows = [
        (logits.tolist(), shares) for _, each, of in told for logits, shares in zip(each, of, strict=True)
    ]
    _, logits = stored.get(0, views.ids)
    for mine, shares in zip(logits.tolist(), wanted, strict=True):
        assert any(mine == theirs and torch.allclose(shares, of) for theirs, of in rows)
    assert torch.equal(torch.cat(again).sort(0).values, first.sort(0).values)


def test_soft_labels_of_whole_images_come_with_items(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no soft labels of whole images; .*labels\.per=image"):
        fastdd.load(folder, soft=True)
    text = STORED.replace("per: view, epochs: 2, batch: 10", "per: image")
    (tmp_path / "image.yaml").write_text(text)
    fastdd.run(tmp_path / "image.yaml", tmp_path / "run", until="label")
    data = fastdd.load(tmp_path / "run", soft=True)
    image, label, logits = data[29]
    assert label == 9
    assert torch.equal(image, data.images[29])
    teacher = open_teacher(RunFolder(tmp_path / "run").teacher(), torch.device("cpu"))
    with torch.no_grad():
        wanted = teacher.network(data.normalize(data.images))
    assert torch.allclose(torch.stack([item[2] for item in data]), wanted, atol=2e-2)  # stored in fp16
    export(open_set(tmp_path / "run", channels=1), "imagefolder", tmp_path / "set")
    exported = fastdd.load(tmp_path / "set", channels=1, soft=True)
    assert torch.equal(exported.images, data.images)
    assert torch.equal(exported[29][2], logits)


def test_what_a_set_does_not_have_is_said(folder: Path, tmp_path: Path) -> None:
    export(open_set(folder, channels=1), "imagefolder", tmp_path / "set")
    data = fastdd.load(tmp_path / "set", channels=1)
    with pytest.raises(InputError, match="is no run, so it has no labels of views; give the run's folder"):
        data.views(0)
    with pytest.raises(InputError, match="is no run, which would say how images are normalized"):
        data.normalize(data.images)
    with pytest.raises(InputError, match=r"labels.*random/?.* holds no labels|has no images of arm"):
        fastdd.load(folder, "nothing")
    with pytest.raises(InputError, match="has no student_labels of 'other'; it has none"):
        fastdd.load(folder).views(0, student="other")


def test_views_of_a_further_student_are_replayed_by_its_own_rule(tmp_path: Path) -> None:
    further = (
        "students: {drawn: {network: convnet1, labels: stored, steps: 6, batch: 10, pad: 1, flip: 0.5}}\n"
        "student_labels: {drawn: {replay: once}}\n"
    )
    (tmp_path / "two.yaml").write_text(STORED + further)
    fastdd.run(tmp_path / "two.yaml", tmp_path / "out", until="label")
    data = fastdd.load(tmp_path / "out")
    stored = StoredLabels.open(RunFolder(tmp_path / "out").labels("kmeans", "view", "drawn"))
    expected = [stored.get(epoch, ids)[1] for epoch, ids in stored.batches(1, 0, "once")]
    found = [logits for _, logits in data.views(1, student="drawn")]
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))
    with pytest.raises(InputError, match=r"no student_labels of '../drawn' \(did you mean 'drawn'\?\)"):
        data.views(1, student="../drawn")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epoch": -1}, "epoch is -1, expected an integer of 0 or more"),
        ({"epoch": 1.5}, "epoch is 1.5"),
        ({"epoch": 0, "batch": 0}, "batch is 0, expected an integer of 1 or more"),
        ({"epoch": 0, "seed": True}, "seed is True"),
    ],
)
def test_views_that_cannot_be_are_refused(folder: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fastdd.load(folder).views(**asked)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path": None}, "path is a NoneType, expected a folder"),
        ({"arm": 3}, "arm is a int, expected the name of an arm"),
        ({"size": 3.5}, "size is 3.5, expected an integer"),
        ({"channels": 0}, "channels is 0, expected an integer of 1 or more"),
    ],
)
def test_arguments_of_load_of_the_wrong_type_are_refused(
    folder: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fastdd.load(**{"path": folder, **given})


def test_a_runs_result_gives_images_and_a_table(folder: Path) -> None:
    run = RunFolder(folder)
    result = RunResult(run, read_manifest(run))
    assert list(result.arms) == ["kmeans", "random"]
    assert torch.equal(result.arms["kmeans"].images(), fastdd.load(folder, "kmeans").images)
    assert result.arms["kmeans"].result.seen == 3
    assert repr(result.arms["kmeans"]) == f"RunArm('kmeans' of {str(folder)!r})"
    rows = result.table()
    assert [(row["arm"], row["role"], row["regime"]) for row in rows] == [
        ("random", "control", "fixed"),
        ("kmeans", "", "fixed"),
    ]
    assert result.arms["kmeans"].result.title == "kmeans", "an arm without a title has its own name"
    shown = result._repr_html_()
    assert shown.count("<tr>") == 3
    assert shown.count('<img src="data:image/webp;base64,') == 2


# -- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("student_temperature", "t_squared"), [(None, False), (None, True), (1.0, False)])
def test_kl_and_its_gradient_against_float64(student_temperature: float | None, t_squared: bool) -> None:
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 7, generator=random, dtype=torch.float64, requires_grad=True)
    targets = 3 * torch.randn(5, 7, generator=random, dtype=torch.float64)
    T, t = 4.0, student_temperature or 4.0
    p, log_q = F.softmax(targets / T, 1), F.log_softmax(outputs / t, 1)
    wanted = (p * (p.log() - log_q)).sum(1).mean() * (T**2 if t_squared else 1)
    (slope,) = torch.autograd.grad(wanted, outputs)
    mine = outputs.detach().float().requires_grad_()
    loss = fastdd.losses.distillation(
        mine, targets.float(), temperature=T, student_temperature=student_temperature, t_squared=t_squared
    )
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert mine.grad is not None
    assert torch.allclose(mine.grad.double(), slope, atol=1e-7)


def test_gift_and_mse_and_the_added_cross_entropy() -> None:
    # frontier: z = (5, 3, 1, 0, -2), s = (1, .5, 0, -.5, -1), class 0
    s, z = torch.tensor([[1, 0.5, 0, -0.5, -1]]), torch.tensor([[5.0, 3, 1, 0, -2]])
    shares = F.one_hot(torch.tensor([0]), 5).float()
    loss = fastdd.losses.distillation
    gift = loss(s, z, loss="cosine", hard_part=0.1, hard_smoothing=0.1, class_shares=shares)
    assert gift.item() == pytest.approx(0.1480085, abs=1e-6)
    assert loss(s, z, loss="cosine").item() == pytest.approx(0.1391715, abs=1e-6)
    assert loss(s, z, loss="mse").item() == pytest.approx((s - z).square().mean().item())
    both = loss(s, z, temperature=20.0, hard_weight=0.5, hard_labels=torch.tensor([0]))
    p = F.softmax(z / 20, 1)
    kl = (p * (p.log() - F.log_softmax(s / 20, 1))).sum().item()
    assert both.item() == pytest.approx(kl + 0.5 * F.cross_entropy(s, torch.tensor([0])).item())


def test_a_protocol_gives_its_loss() -> None:
    s, z = torch.randn(4, 10), torch.randn(4, 10)
    loss = fastdd.losses.of_protocol("sre2l-cifar")
    assert loss(s, z) == fastdd.losses.distillation(s, z, temperature=30.0)
    with pytest.raises(InputError, match="dsa learn from classes alone"):
        fastdd.losses.of_protocol("dsa")
    with pytest.raises(InputError, match="sre2l-cifar"):
        fastdd.losses.of_protocol("sre2l-cifr")


def test_a_loss_leaves_nothing_out_that_it_was_asked_for() -> None:
    s, z = torch.randn(4, 10), torch.randn(4, 10)
    with pytest.raises(InputError, match=r"no loss 'cosin' \(did you mean 'cosine'\?\)"):
        fastdd.losses.distillation(s, z, loss="cosin")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give hard_labels, or hard_weight=0"):
        fastdd.losses.of_protocol("gvbsm-cifar10")(s, z)
    gift = fastdd.losses.of_protocol("gift")
    with pytest.raises(InputError, match="give class_shares, or hard_part=0"):
        gift(s, z)
    assert gift(s, z, class_shares=F.one_hot(torch.arange(4), 10).float()).isfinite()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"targets": torch.zeros(2, 4)},
            r"outputs and targets are \(2, 3\) and \(2, 4\), expected logits of",
        ),
        ({"outputs": 3}, r"outputs and targets are 3 and \(2, 3\)"),
        ({"outputs": torch.zeros(3), "targets": torch.zeros(3)}, r"\(3,\) and \(3,\), expected .* \[B, C\]"),
        ({"temperature": 0.0}, r"temperature is 0\.0, expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"student_temperature": "4"}, "student_temperature is '4'"),
    ],
)
def test_logits_and_temperatures_without_a_loss_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fastdd.losses.distillation(**{"outputs": torch.zeros(2, 3), "targets": torch.zeros(2, 3), **changed})


def test_a_run_without_its_recipe_is_not_taken_for_images_in_folders(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "out")
    (tmp_path / "out" / "recipe.yaml").unlink()
    with pytest.raises(InputError, match=r"out is no run folder: it has no recipe\.yaml"):
        fastdd.load(tmp_path / "out")


def test_an_empty_text_is_no_folder() -> None:
    with pytest.raises(InputError, match="path is an empty text, expected a folder"):
        fastdd.load("")
