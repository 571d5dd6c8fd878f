"""Evaluate and labels: students under one protocol, mixing, diversity, stored soft labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from galleries import pixels
from torch import Tensor, nn

from fastdd import labels
from fastdd.config import Labels, RandAugment, Student, TemperatureSchedule
from fastdd.data import open_dataset
from fastdd.data.loading.augment import mix_batch
from fastdd.distilled.runs import learned_lr
from fastdd.errors import InputError
from fastdd.evaluate import TrainedStudent, diversity, embed, protocol_hash, protocol_text, train_student
from fastdd.evaluate.loss import student_loss
from fastdd.evaluate.results_file import TrainingSet
from fastdd.models.build import build, network_builder
from fastdd.protocols import settle_student
from fastdd.run_folder import RunFolder, UnitLog, write
from fastdd.runtime.files import write_tensors
from fastdd.teachers import Card, Teacher
from fastdd_kernels import knn_radii

CONFIG = Student(
    network="resnet8", steps=6, batch=16, pad=1, flip=0.0, seeds=2, evaluations=2, lr=0.01, temperature=4.0
)


class Count:
    """A progress bar that only counts."""

    images = 0

    def advance(self, images: int, note: str = "") -> None:
        self.images += images


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    network = build("resnet8", 10, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    card = Card("resnet8", tuple("0123456789"), 1, (0.3,), (0.4,))
    return Teacher(network.eval().requires_grad_(False), card)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = open_dataset("digits", "test")
    chosen = torch.arange(0, len(data), 9)
    return pixels(data, None, 1, chosen), data.labels[chosen]


def student(teacher: Teacher, digits: tuple[Tensor, Tensor], seed: int = 1, **changes: Any) -> TrainedStudent:
    stored = changes.pop("stored", None)
    config = settle_student(CONFIG.model_copy(update=changes), len(digits[0]), 10)
    return train_student(
        config,
        teacher,
        digits[0],
        new_network=network_builder(config.network, 10, digits[0].shape[1]),
        test=digits,
        seed=seed,
        bar=Count(),
        soft_labels=stored,
    )


# -- students -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_same_seed_same_result(
    teacher: Teacher, digits: tuple[Tensor, Tensor], mixing: str, mode: str
) -> None:
    torch.manual_seed(1)
    one = student(teacher, digits, mix=mixing, teacher_mode=mode)
    torch.manual_seed(2)
    assert student(teacher, digits, mix=mixing, teacher_mode=mode) == one
    assert [step for step, _ in one.curve] == [3, 6]


def weights(
    monkeypatch: pytest.MonkeyPatch,
    config: Student,
    teacher: Teacher,
    images: Tensor,
    *,
    test: tuple[Tensor, Tensor],
    seed: int,
    stored: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weights of a trained student, seen at its last test."""
    seen: dict[str, Tensor] = {}

    def look(network: nn.Module, *rest: Any) -> float:
        seen.update({name: value.clone() for name, value in network.state_dict().items()})
        return 0.5

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    settled = settle_student(config, len(images), 10)
    train_student(
        settled,
        teacher,
        images,
        new_network=network_builder(config.network, 10, images.shape[1]),
        test=test,
        seed=seed,
        bar=Count(),
        soft_labels=stored,
    )
    return seen


@pytest.mark.parametrize(("name", "size"), [("resnet8", 8), ("squeezenet1_1", 32)])
def test_weights_depend_on_the_seed_alone(
    teacher: Teacher, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    """SqueezeNet has dropout, which draws from the global generator."""
    card = Card("resnet8", tuple("0123456789"), 3, (0.3,) * 3, (0.4,) * 3)
    colors = Teacher(build("resnet8", 10, 3).eval().requires_grad_(False), card)
    images = F.interpolate(digits[0].float(), size=(size, size)).to(torch.uint8).expand(-1, 3, -1, -1)[:8]
    config = CONFIG.model_copy(update={"network": name, "steps": 2, "batch": 4})

    def trained(seed: int) -> dict[str, Tensor]:
        return weights(monkeypatch, config, colors, images, test=(images, digits[1][:8]), seed=seed)

    torch.manual_seed(1)
    one = trained(1)
    torch.manual_seed(2)
    again, other = trained(1), trained(2)
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[key]) for key, value in one.items())


def test_a_student_learns_and_leaves_the_teacher_alone(
    teacher: Teacher, digits: tuple[Tensor, Tensor]
) -> None:
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    # labels that are the truth, made into logits
    truth = 8.0 * F.one_hot(digits[1], 10)
    result = student(teacher, digits, labels="stored", stored=truth, steps=60, mix="none", temperature=1.0)
    assert result.best > 0.9
    student(teacher, digits, teacher_mode="train")
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    assert not teacher.network.training


def test_stored_and_online_labels_agree_where_nothing_moves(
    teacher: Teacher, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"mix": "none", "pad": 0, "steps": 1, "lr": 1e-3})
    logits = teacher.network(teacher.normalize(digits[0]))

    def trained(config: Student, stored: Tensor | None) -> dict[str, Tensor]:
        return weights(monkeypatch, config, teacher, digits[0], test=digits, seed=1, stored=stored)

    online = trained(config, None)
    stored = trained(config.model_copy(update={"labels": "stored"}), logits)
    wrong = trained(config, logits.flip(1))
    # Adam's first step is lr times the sign of each gradient: equal but where the gradient is mere rounding
    gap = {
        key: (online["linear.weight"] - other["linear.weight"]).abs()
        for key, other in (("stored", stored), ("wrong", wrong))
    }
    assert float((gap["stored"] > 1e-5).float().mean()) < 0.01
    assert float((gap["wrong"] > 1e-5).float().mean()) > 0.1


@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_the_loss_is_the_divergence_written_out(temperature: float) -> None:
    torch.manual_seed(0)
    network, batch = nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), torch.randn(7, 1, 1, 5)
    targets = 10 * torch.randn(7, 4)
    config = CONFIG.model_copy(update={"temperature": temperature})
    p, q = (F.softmax(logits.double() / temperature, 1) for logits in (targets, network(batch)))
    wanted = (p * (p / q).log()).sum() / 7
    assert student_loss(network, network, batch, targets, config=config).item() == pytest.approx(
        wanted.item(), rel=1e-4
    )
    assert student_loss(network, network, batch, None, config=config).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("steps", "evaluations"), [(10, 4), (8, 8), (5, 1), (3, 7), (7, 3)])
def test_evaluations_are_evenly_spaced_and_end_at_the_end(
    teacher: Teacher,
    digits: tuple[Tensor, Tensor],
    steps: int,
    evaluations: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = iter([0.2, 0.7, 0.3, 0.1, 0.4, 0.0, 0.6, 0.5])
    monkeypatch.setattr("fastdd.evaluate.student._test", lambda *arguments: next(values))
    result = student(teacher, digits, steps=steps, evaluations=evaluations, batch=4)
    done = [step for step, _ in result.curve]
    assert done == sorted({math.ceil(i * steps / evaluations) for i in range(1, evaluations + 1)})
    assert done[-1] == steps
    assert result.last == result.curve[-1][1]
    assert result.best == max(value for _, value in result.curve)


def test_every_image_is_seen_once_an_epoch(teacher: Teacher, digits: tuple[Tensor, Tensor]) -> None:
    bar = Count()
    config = settle_student(CONFIG.model_copy(update={"batch": 16, "steps": 3}), len(digits[0]), 10)
    new_network = network_builder(config.network, 10, digits[0].shape[1])
    train_student(config, teacher, digits[0], new_network=new_network, test=digits, seed=1, bar=bar)
    assert len(digits[0]) == 40
    assert bar.images == 40  # 16 + 16 + 8


# -- protocol -------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "network": "resnet20",
    "steps": 7,
    "epochs": 5,
    "batch": 17,
    "accumulate": 2,
    "optimizer": "sgd",
    "lr": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.5,
    "decay_norms": False,
    "schedule": "cos2",
    "stretch": 2.0,
    "milestones": (0.5,),
    "milestone_factor": 0.2,
    "restart_momentum": True,
    "warmup": 0.1,
    "warmup_start": 0.3,
    "lr_interval": "epoch",
    "ema": 0.9,
    "labels": "stored",
    "teacher_mode": "train",
    "loss": "mse",
    "label_stages": (("soft", 0.5), ("hard", 0.5)),
    "temperature": 5.0,
    "temperature_schedule": TemperatureSchedule(),
    "student_temperature": 1.0,
    "t_squared": True,
    "hard_weight": 0.1,
    "hard_part": 0.1,
    "hard_smoothing": 0.2,
    "randaugment": RandAugment(),
    "shuffle_patches": 2,
    "scale": (0.1, 1.0),
    "pad": 2,
    "pad_color": "black",
    "flip": 0.25,
    "siamese": ("color",),
    "siamese_always": ("cutout",),
    "mix": "none",
    "mix_alpha": 0.3,
    "mix_probability": 0.5,
    "evaluations": 3,
    "test_every": 2,
    "best_from": 0.5,
    "precision": "bf16",
    "per_epoch": "stored",
    "whole": 0.25,
}
NAMES: dict[str, Any] = {
    "protocol": "x",
    "seeds": 5,
    "reported": "best",
    "compile": True,
    "keep": True,
    "checkpoint_every": 5.0,
}
"""what a student learns does not depend on these"""
QUIET = {
    "epochs",
    "hard_part",
    "momentum",
    "milestones",
    "milestone_factor",
    "restart_momentum",
    "warmup_start",
    "evaluations",
    "test_every",
}
"""not in the line, or only beside others"""


def test_the_hash_changes_with_every_part() -> None:
    fields = Student.model_fields.keys()
    others = {"augment"}  # it sets parts that count, see test_protocols.py
    assert OTHER.keys() | NAMES.keys() | others == fields, "a new part of the protocol: add a value for it"
    assert all(
        protocol_hash(CONFIG.model_copy(update={name: v})) == protocol_hash(CONFIG)
        for name, v in NAMES.items()
    )
    hashes = [protocol_hash(CONFIG.model_copy(update={name: value})) for name, value in OTHER.items()]
    assert len({*hashes, protocol_hash(CONFIG)}) == len(hashes) + 1
    assert all(len(value) == 8 and int(value, 16) >= 0 for value in hashes)
    told = OTHER.keys() - QUIET
    assert len({protocol_text(CONFIG.model_copy(update={name: OTHER[name]})) for name in told}) == len(told)


# -- mixing ---------------------------------------------------------------------------------------


def batch(n: int = 5) -> tuple[Tensor, Tensor]:
    """Images, and targets that tell who was mixed with whom."""
    return torch.randn(n, 3, 6, 7, generator=generator()), torch.eye(n)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def mixture(targets: Tensor) -> tuple[float, Tensor]:
    """Ratio and permutation that made mixed unit vectors; the permutation must move something."""
    n = len(targets)
    others = targets - targets.diagonal().diag()
    order = torch.where(others.any(1), others.argmax(1), torch.arange(n))
    assert order.sort().values.tolist() == list(range(n))
    (moved,) = torch.nonzero(others.any(1), as_tuple=True)
    ratio = targets[moved[0], moved[0]]
    torch.testing.assert_close(targets, ratio * torch.eye(n) + (1 - ratio) * torch.eye(n)[order])
    return float(ratio), order


def test_no_mixing_is_no_mixing() -> None:
    images, targets = batch()
    assert mix_batch(images, targets, "none", alpha=0.8, draw=generator()) == (images, targets)


def test_mixup_is_one_ratio_and_one_permutation() -> None:
    images, targets = batch()
    mixed, mixed_targets = mix_batch(images, targets, "mixup", alpha=0.8, draw=generator())
    assert mixed_targets is not None
    ratio, order = mixture(mixed_targets)
    assert 0 < ratio < 1
    torch.testing.assert_close(mixed, ratio * images + (1 - ratio) * images[order], atol=1e-5, rtol=1e-5)
    again, none = mix_batch(images, None, "mixup", alpha=0.8, draw=generator())
    assert torch.equal(again, mixed)
    assert none is None


def test_cutmix_is_one_box() -> None:
    images, targets = batch()
    seen = 0
    draw = generator()
    for _ in range(20):
        kept = images.clone()
        mixed, mixed_targets = mix_batch(images, targets, "cutmix", alpha=1.0, draw=draw)
        assert torch.equal(images, kept)
        assert mixed_targets is not None
        ratio, order = mixture(mixed_targets)
        foreign = (mixed == images[order]).all(1) & (mixed != images).any(1)
        rows, columns = foreign.any(0).any(1), foreign.any(0).any(0)
        box = rows[:, None] & columns
        assert torch.equal(mixed, torch.where(box, images[order], images))
        height, width = (int(side * math.sqrt(1 - ratio)) // 2 * 2 for side in (6, 7))
        assert int(rows.sum()) <= height
        assert int(columns.sum()) <= width
        seen += int(rows.sum()) == height and int(columns.sum()) == width
        for side in (rows, columns):  # one stretch, without gaps
            assert int((side[1:] & ~side[:-1]).sum()) + int(side[0]) <= 1
    assert seen > 0  # not every box is clipped by the border


@pytest.mark.parametrize("alpha", [0.2, 0.8, 5.0])
def test_ratios_are_beta(alpha: float) -> None:
    images, targets = torch.zeros(2, 1, 1, 1), torch.tensor([[0.0], [1.0]])
    draw = generator()
    ratios = []
    while len(ratios) < 400:
        _, mixed = mix_batch(images, targets, "mixup", alpha=alpha, draw=draw)
        assert mixed is not None
        if mixed[0] != 0:  # the permutation that swaps
            ratios.append(1 - mixed[0].item())
    values = torch.tensor(ratios)
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(values.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(variance / 400))
    assert float(values.var()) == pytest.approx(variance, rel=0.35)


# -- diversity ------------------------------------------------------------------------------------


def test_diversity_against_the_definitions() -> None:
    torch.manual_seed(0)
    real, synthetic = torch.rand(60, 5), torch.rand(12, 5) + 0.3
    truth = torch.arange(3).repeat_interleave(4)
    got = diversity(real, knn_radii(real, 5), synthetic, truth, 5)
    radii = torch.cdist(real, real).sort(1).values[:, 5]
    assert got.coverage == pytest.approx(
        float((torch.cdist(real, synthetic).min(1).values < radii).float().mean())
    )
    assert 0 < got.coverage < 1
    for c in range(3):
        unit = F.normalize(synthetic[truth == c].double())
        gram = unit @ unit.T
        values = torch.linalg.eigvalsh(gram / 4).clamp(min=1e-300)
        assert got.vendi_by_class[c] == pytest.approx(float((-(values * values.log()).sum()).exp()), rel=1e-4)
        assert got.cosine_by_class[c] == pytest.approx(float((gram.sum() - 4) / 12), rel=1e-5)
    assert got.vendi == pytest.approx(sum(got.vendi_by_class) / 3)
    assert got.cosine == pytest.approx(sum(got.cosine_by_class) / 3)


def test_diversity_of_one_image_a_class() -> None:
    torch.manual_seed(0)
    real = torch.rand(20, 5)
    got = diversity(real, knn_radii(real, 5), torch.rand(3, 5), torch.arange(3), 5)
    assert got.cosine_by_class == [1.0] * 3
    assert got.vendi_by_class == pytest.approx([1.0] * 3)


def test_embeddings_are_the_input_of_the_last_layer(teacher: Teacher, digits: tuple[Tensor, Tensor]) -> None:
    seen: list[Tensor] = []
    linear: Callable[..., Any] = teacher.network.linear.register_forward_pre_hook  # type: ignore[assignment, union-attr]
    handle = linear(lambda module, inputs: seen.append(inputs[0]))
    teacher.network(teacher.normalize(digits[0]))
    handle.remove()
    torch.testing.assert_close(embed(teacher, digits[0]), seen[0])


# -- stored labels --------------------------------------------------------------------------------


def test_stored_labels(
    teacher: Teacher, digits: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdd.labels.per_image.BATCH", 7)
    made = labels.label_images(teacher, digits[0], "x")
    assert made.dtype == torch.float16
    wanted = teacher.network(teacher.normalize(digits[0]))
    torch.testing.assert_close(made.float(), wanted, rtol=2**-10, atol=1e-5)  # half precision
    labels.save_labels(tmp_path / "l.safetensors", made, digits[0])
    write_tensors(
        tmp_path / "earlier.safetensors", {"logits": made}
    )  # an earlier version did not say of which images
    for name in ("l", "earlier"):
        loaded = labels.load_labels(tmp_path / f"{name}.safetensors", digits[0], 10)
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, made.float())


def test_the_rate_that_a_method_learned_is_its_sets_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write(run.unit("mtt", 0), UnitLog(rows=((0, 0),), losses=(), learned={"lr": 0.0213, "share": 2.0}))
    write(run.unit("random", 0), UnitLog(rows=((0, 0),), losses=()))
    rates = {name: learned_lr(run, name) for name in ("mtt", "random", "full")}
    assert rates == {"mtt": 0.0213, "random": None, "full": None}
    config = CONFIG.model_copy(update={"lr": "learned"})
    images, classes = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.arange(2)
    sets = [TrainingSet(name, 2, lambda: (images, classes), learned_lr=rate) for name, rate in rates.items()]
    assert [each.protocol(config, 10).peak_lr for each in sets] == [0.0213, 0.01, 0.01]
    assert [each.protocol(CONFIG, 10).peak_lr for each in sets] == 3 * [0.01]
    assert len({protocol_hash(each.protocol(config, 10)) for each in sets}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"siamese": ("color",)}, "siamese or black padding; set student.labels=online"),
        ({"siamese_always": ("color",)}, "siamese or black padding; set student.labels=online"),
        ({"mix_probability": 0.5}, "mixes every batch, but student.mix_probability is 0.5"),
    ],
)
def test_labels_of_views_refuse_augmentation_that_they_do_not_record(
    changes: dict[str, Any], message: str
) -> None:
    config = settle_student(CONFIG.model_copy(update=changes), 2, 10)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(InputError, match=message):
        labels.plan_labels(Labels(per="view"), config, images, classes=10, teachers=("a",), seed=0)
