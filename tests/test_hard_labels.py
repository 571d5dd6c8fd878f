"""Hard labels: the classes of the images, mixed as the batch is, by cross-entropy and without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd.config import Student
from fastdd.errors import InputError
from fastdd.evaluate import AugmentedBatches, protocol_hash, protocol_text, train_student
from fastdd.evaluate.loss import student_loss
from fastdd.models.build import build, network_builder
from fastdd.protocols import SettledStudent, settle_student
from fastdd.teachers import Card, Teacher

CLASSES = 4
CONFIG = Student(
    network="convnet1", labels="hard", steps=3, batch=12, pad=0, flip=0.0, mix="none", evaluations=1, lr=0.01
)


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    card = Card("convnet1", tuple("abcd"), 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Teacher(build("convnet1", CLASSES).eval().requires_grad_(False), card)


@pytest.fixture
def plain_images() -> Tensor:
    """Twelve images, each of one level that tells its class."""
    return (60 * torch.arange(12) % 240)[:, None, None, None].expand(12, 3, 8, 8).to(torch.uint8)


TRUTH = torch.arange(12) % CLASSES


def changed(**changes: Any) -> SettledStudent:
    return settle_student(Student.model_validate({**CONFIG.model_dump(), **changes}), 12, CLASSES)


def train(
    config: SettledStudent,
    teacher: Teacher,
    images: Tensor,
    soft: Tensor | None,
    hard: Tensor | None,
    new_network: Callable[[], nn.Module] | None = None,
) -> None:
    test = (images, TRUTH)
    new_network = new_network or network_builder(config.network, CLASSES, images.shape[1])
    train_student(
        config,
        teacher,
        images,
        new_network=new_network,
        test=test,
        seed=1,
        bar=Silent(),
        soft_labels=soft,
        hard_labels=hard,
    )


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_targets_are_the_shares_of_the_classes(teacher: Teacher, plain_images: Tensor, mix: str) -> None:
    """One level a class: the mean of a mixed image is that of the classes' levels by its targets."""
    config = changed(mix=mix, mix_alpha=1.0)
    levels = teacher.normalize(plain_images)[:CLASSES].mean((2, 3))
    (batch,) = AugmentedBatches(config, teacher, plain_images, seed=5, hard_labels=TRUTH).epoch(0)
    assert batch.targets is not None
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(12))
    assert bool((batch.targets.amax(1) < 1).any()) == (mix != "none")
    # a box has whole pixels, whatever ratio was drawn: one row and column of 8 on either side
    tolerance = 0.5 if mix == "cutmix" else 1e-5
    torch.testing.assert_close(batch.images.mean((2, 3)), batch.targets @ levels, atol=tolerance, rtol=0.0)


def test_the_loss_is_the_cross_entropy_written_out(teacher: Teacher, plain_images: Tensor) -> None:
    student, batch = build("convnet1", CLASSES), teacher.normalize(plain_images)
    targets = torch.rand(12, CLASSES).softmax(1)
    p = student(batch).double().exp()
    wanted = -(targets.double() * (p / p.sum(1, keepdim=True)).log()).sum(1).mean()
    for loss in ("kl", "mse"):  # said of soft labels alone
        found = student_loss(
            student, teacher.network, batch, targets, config=changed(loss=loss, temperature=20.0)
        )
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    beside = student_loss(
        student, teacher.network, batch, targets, config=changed(hard_weight=0.5), hard_labels=TRUTH
    )
    own = -(p / p.sum(1, keepdim=True)).log()[torch.arange(12), TRUTH].mean()
    assert beside.item() == pytest.approx((wanted + 0.5 * own).item(), rel=1e-5)


def test_a_student_takes_the_plain_steps_and_asks_no_teacher(
    teacher: Teacher, plain_images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Tensor]] = []

    def look(network: torch.nn.Module, *rest: Any) -> float:
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return 0.0

    def ask(*inputs: Any) -> None:
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    silent = Teacher(build("convnet1", CLASSES).eval(), teacher.card)
    silent.network.register_forward_pre_hook(ask)
    config = changed(optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule="constant")
    initial: list[dict[str, Tensor]] = []

    def remembered() -> nn.Module:
        network = build("convnet1", CLASSES)
        initial.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return network

    train(config, silent, plain_images, None, TRUTH, new_network=remembered)
    reference = build("convnet1", CLASSES)
    reference.load_state_dict(initial[0])
    optimizer = torch.optim.SGD(reference.parameters(), 0.01)
    for _ in range(3):  # a batch is the whole set, so its order says nothing
        optimizer.zero_grad()
        F.cross_entropy(reference(teacher.normalize(plain_images)), TRUTH).backward()
        optimizer.step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(seen[-1][name], tensor, rtol=1e-4, atol=1e-6)


def test_hard_labels_have_a_line_and_a_hash_of_their_own() -> None:
    soft = changed(labels="online")
    assert protocol_hash(CONFIG) != protocol_hash(soft)
    assert ", hard labels, cross-entropy, " in protocol_text(CONFIG)
    assert ", hard labels, mixed as the images, cross-entropy, " in protocol_text(changed(mix="mixup"))
    assert "teacher" not in protocol_text(CONFIG)
    assert "online labels of the teacher" in protocol_text(soft)


def test_hard_labels_that_do_not_fit(teacher: Teacher, plain_images: Tensor) -> None:
    with pytest.raises(
        InputError, match=r"student\.labels=hard needs the classes of the images.*set it to online"
    ):
        train(changed(), teacher, plain_images, None, None)
    with pytest.raises(InputError, match=r"labels=hard learns the classes.*soft labels are given"):
        train(changed(), teacher, plain_images, torch.zeros(12, CLASSES), TRUTH)
    with pytest.raises(InputError, match=r"classes up to 9 do not fit"):
        train(changed(), teacher, plain_images, None, torch.full((12,), 9))


def test_a_teacher_in_train_mode_needs_no_statistics_where_it_is_not_asked(
    teacher: Teacher, plain_images: Tensor
) -> None:
    normalizing = Teacher(build("resnet8", CLASSES).eval(), teacher.card)
    config = changed(batch=1, teacher_mode="train")
    train(config, normalizing, plain_images, None, TRUTH)
    soft = config.model_copy(update={"labels": "online"})
    with pytest.raises(InputError, match="the teacher in train mode has BatchNorm"):
        train(soft, normalizing, plain_images, None, TRUTH)
