"""Labels at a rate: temperatures, stages of soft and hard labels, GIFT's loss, and pools without replacement.

The numbers were computed in float64, from the released code's formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastdd.config import Labels, Student, TemperatureSchedule
from fastdd.errors import InputError
from fastdd.evaluate import (
    AugmentedBatches,
    ReplayedBatches,
    StudentBatch,
    protocol_hash,
    protocol_text,
    train_student,
)
from fastdd.evaluate.batches import StagedBatches, endless
from fastdd.evaluate.loss import scheduled_temperature, student_loss
from fastdd.labels import (
    Augmentation,
    LabelManifest,
    LabelPool,
    StoredLabels,
    bytes_per_label,
    decode,
    encode,
    export_fkd,
    images_fingerprint,
    import_fkd,
    label_views,
    plan_labels,
    warning_of,
)
from fastdd.models.build import build, network_builder
from fastdd.protocols import SettledStudent, preset, settle_student
from fastdd.recipes.students import resolve_student
from fastdd.teachers import Card, Teacher

CLASSES = 4
Z = torch.tensor([[5.0, 3.0, 1.0, 0.0, -2.0]], dtype=torch.float64)
S = torch.tensor([[1.0, 0.5, 0.0, -0.5, -1.0]], dtype=torch.float64)
TRUTH = torch.arange(12) % CLASSES


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        pass


class Given(nn.Module):
    """A network whose logits are its parameter, whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.float())

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    card = Card("convnet1", tuple("abcd"), 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Teacher(build("convnet1", CLASSES).eval().requires_grad_(False), card)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def settled(images: int = 12, **changes: Any) -> SettledStudent:
    plain = {"network": "convnet1", "steps": 4, "batch": 6, "pad": 1, "mix": "none", "evaluations": 1}
    return settle_student(Student.model_validate({**plain, **changes}), images, CLASSES)


def loss_and_gradient(
    targets: Tensor, step: float | None = None, shares: Tensor | None = None, **changes: Any
) -> tuple[float, list[float]]:
    """The loss of the logits S on one image, and its gradient."""
    network = Given(S)
    loss = student_loss(
        network,
        network,
        torch.zeros(1, 3, 2, 2),
        targets,
        config=settled(**changes),
        class_shares=shares,
        temperature=None if step is None else torch.tensor(step),
    )
    (gradient,) = torch.autograd.grad(loss, network.logits)
    return loss.item(), gradient[0].tolist()


# -- temperatures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "first"), [(20.0, 0.5249792), (9.8, 0.5508441), (2.0, 0.7310586)])
def test_labels_without_a_rest_have_the_kept_classes_alone(temperature: float, first: float) -> None:
    stored = decode(encode(Z, "topk", 2, rest="none"), "topk", 5)
    p = F.softmax(stored.double() / temperature, 1)[0]
    torch.testing.assert_close(p[:2], torch.tensor([first, 1 - first]).double(), rtol=0, atol=1e-7)
    assert torch.equal(p[2:], torch.zeros(3).double())
    assert stored.half().isfinite().all()  # so that every reader and layout takes them


def test_a_rest_is_right_at_one_temperature_alone() -> None:
    stored = encode(Z, "topk", 2, 20.0)
    assert float(stored["rest"]) == pytest.approx(-0.2947715, abs=2e-4)  # in fp16
    assert bytes_per_label("topk", 5, 2) - bytes_per_label("topk", 5, 2, "none") == 2
    assert "rest" not in encode(Z, "topk", 2, 20.0, rest="none")
    logits = decode(stored, "topk", 5).double()
    wanted = {
        20.0: [0.2376958, 0.2150761, 0.1824094, 0.1824094, 0.1824094],
        2.0: [0.6327560, 0.2327779, 0.0448220, 0.0448220, 0.0448220],
    }
    for T, probabilities in wanted.items():
        assert F.softmax(logits / T, 1)[0].tolist() == pytest.approx(probabilities, abs=1e-5)
    truth = [0.6190045, 0.2277190, 0.0837732, 0.0508110, 0.0186923]
    assert F.softmax(Z / 2, 1)[0].tolist() == pytest.approx(truth, abs=1e-7)


def test_the_student_s_own_temperature_scales_its_gradient() -> None:
    """Of the same labels at T = 20, twenty times where the student's softmax has T = 1; there is no T^2."""
    two = decode(encode(Z, "topk", 2, rest="none"), "topk", 5)
    for changes, value, wanted in (
        ({}, 0.8800396, [-0.0157428, -0.0135043, 0.0099938, 0.0097470, 0.0095064]),
        ({"student_temperature": 1.0}, 0.3927133, [-0.0963237, -0.2150281, 0.1576936, 0.0956460, 0.0580122]),
    ):
        for given, step in ((20.0, None), (7.0, 20.0)):  # the step's temperature counts, where it has one
            found = loss_and_gradient(two, step, **{"temperature": given, **changes})
            assert found[0] == pytest.approx(value, abs=2e-7)
            assert found[1] == pytest.approx(wanted, abs=2e-7)


def test_temperatures_fall_as_released() -> None:
    step = settled(
        temperature=20.0, temperature_schedule={"kind": "step", "low": 2, "factor": 0.7, "every": 0.1}
    )
    epochs = [1, 29, 30, 60, 90, 120, 150, 180, 210, 300]
    wanted = [20, 20, 14, 9.8, 6.86, 4.802, 3.3614, 2.35298, 2, 2]
    assert [scheduled_temperature(step, e - 1, 300) for e in epochs] == pytest.approx(wanted, abs=1e-9)
    cosine = settled(temperature=20.0, temperature_schedule={"kind": "cosine", "low": 1})
    wanted = [19.9994791, 17.2175144, 10.5, 3.7824856, 1]
    found = [scheduled_temperature(cosine, e - 1, 300) for e in (1, 75, 150, 225, 300)]
    assert found == pytest.approx(wanted, abs=1e-7)
    assert scheduled_temperature(settled(), 7, 10) == 30.0


@pytest.mark.parametrize("compiled", [False, True])
def test_each_step_has_its_temperature_and_none_compiles_anew(
    teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    graphs: list[fx.GraphModule] = []
    seen: list[float] = []
    plain = torch.compile

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    def noted(*arguments: Any, temperature: Tensor, **rest: Any) -> Tensor:
        seen.append(float(temperature))
        loss: Tensor = loss_of(*arguments, temperature=temperature, **rest)
        return loss

    loss_of = plain(student_loss, backend=backend, dynamic=False) if compiled else student_loss
    monkeypatch.setattr("fastdd.evaluate.student.student_loss", noted)
    config = settled(
        temperature=20.0,
        temperature_schedule={"low": 2, "factor": 0.5, "every": 0.25},
        student_temperature=1.0,
        steps=8,
    )
    train_student(
        config,
        teacher,
        images,
        new_network=network_builder("convnet1", CLASSES, 3),
        test=(images, TRUTH),
        seed=1,
        bar=Silent(),
    )
    assert seen == [20.0, 10.0, 10.0, 5.0, 5.0, 2.5, 2.5, 2.0]
    assert len(graphs) == (1 if compiled else 0)


def test_a_schedule_changes_the_hash_and_the_line_and_its_absence_does_not() -> None:
    assert protocol_hash(Student()) == "8320d521"
    config = Student(temperature_schedule=TemperatureSchedule(), student_temperature=1.0)
    assert protocol_hash(config) != protocol_hash(Student(student_temperature=1.0)) != "8320d521"
    assert "KL at T = 30 falling to 2 (x0.7 every 0.1), the student's 1" in protocol_text(config)


# -- GIFT and HALD --------------------------------------------------------------------------------


def test_the_cosine_loss_is_the_released_one() -> None:
    shares = F.one_hot(torch.tensor([0]), 5).float()
    how: dict[str, Any] = {"loss": "cosine", "hard_smoothing": 0.1}
    loss, gradient = loss_and_gradient(Z, shares=shares, hard_part=0.1, **how)
    assert loss == pytest.approx(0.1480085, abs=3e-7)
    wanted = [-0.1853502, -0.1119068, -0.0951820, -0.1720188, -0.1552941]
    assert gradient == pytest.approx(wanted, abs=3e-7)
    other = F.one_hot(torch.tensor([3]), 5).float()
    assert loss_and_gradient(Z, shares=other, hard_part=0.1, **how)[0] == pytest.approx(0.1765192, abs=3e-7)
    assert loss_and_gradient(Z, loss="cosine")[0] == pytest.approx(0.1391715, abs=3e-7)
    scaled = loss_and_gradient(7 * Z, shares=shares, hard_part=0.1, **how)[0]
    assert scaled == pytest.approx(loss, abs=3e-7)  # so that it has no temperature


def test_hard_labels_are_smoothed_and_mixed() -> None:
    mixed = 0.7 * F.one_hot(torch.tensor([0]), 5) + 0.3 * F.one_hot(torch.tensor([3]), 5)
    smoothed = mixed * (1 - 0.8) + 0.8 / 5
    assert smoothed[0].tolist() == pytest.approx([0.30, 0.16, 0.16, 0.22, 0.16])
    loss, _ = loss_and_gradient(mixed, labels="hard", hard_smoothing=0.8)
    assert loss == pytest.approx(1.7371016, abs=3e-7)


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_class_shares_are_mixed_as_images_and_labels_are(teacher: Teacher, images: Tensor, mix: str) -> None:
    config = settled(loss="cosine", hard_part=0.1, mix=mix)
    soft = F.one_hot(TRUTH, CLASSES).float()  # so that mixed labels are the mixed classes
    stored = AugmentedBatches(config, teacher, images, seed=2, soft_labels=soft, hard_labels=TRUTH)
    online = AugmentedBatches(config, teacher, images, seed=2, hard_labels=TRUTH)
    for one, other in zip(stored.epoch(0), online.epoch(0), strict=True):
        assert one.class_shares is not None
        assert one.targets is not None
        assert other.targets is None
        torch.testing.assert_close(one.class_shares, one.targets)
        assert other.class_shares is not None
        assert torch.equal(other.class_shares, one.class_shares)
        assert torch.equal(other.images, one.images)
        assert bool((one.class_shares.amax(1) < 1).any()) == (mix != "none")
        assert [part.class_shares.shape for part in one.parts(2) if part.class_shares is not None] == [
            (3, CLASSES),
            (3, CLASSES),
        ]
    assert all(
        batch.class_shares is None for batch in AugmentedBatches(settled(), teacher, images, seed=2).epoch(0)
    )


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_class_shares_of_stored_views_are_those_of_their_mixtures(
    teacher: Teacher, images: Tensor, tmp_path: Path, mix: Any
) -> None:
    stored = labelled(teacher, images, tmp_path / "l", Augmentation((8, 8), mix=mix, batch=6))
    source = ReplayedBatches(
        settled(loss="cosine", hard_part=0.1),
        teacher,
        images,
        stored,
        seed=3,
        hard_labels=TRUTH,
        replay="cycle",
    )
    (batch, _), views = source.epoch(0), stored.views(0).select(torch.arange(6))
    assert batch.class_shares is not None
    for row, shares in enumerate(batch.class_shares):
        wanted = torch.zeros(CLASSES)
        own = 1.0 if views.ratios is None else float(views.ratios[row])
        wanted[TRUTH[views.ids[row]]] += own
        if views.partners is not None:
            wanted[TRUTH[views.partners[row]]] += 1 - own
        torch.testing.assert_close(shares, wanted)


STAGES = [["soft", 0.25], ["hard", 0.5], ["soft", 0.25]]


def test_stages_have_their_shares_of_the_steps() -> None:
    config = settled(steps=10, label_stages=STAGES)
    kinds = "".join("hs"[not config.in_hard_stage(step)] for step in range(10))
    assert kinds == "sshhhhhhss"
    assert config.soft_steps == 4
    shares = [["soft", 50 / 300], ["hard", 199 / 300], ["soft", 51 / 300]]
    released = settled(steps=300, label_stages=shares)
    assert [released.in_hard_stage(step) for step in (49, 50, 248, 249)] == [False, True, True, False]
    assert released.soft_steps == 101
    assert settled().soft_steps == 4
    assert not settled(labels="hard").in_hard_stage(0)


def test_hard_stages_ask_no_teacher_and_read_no_labels(teacher: Teacher, images: Tensor) -> None:
    asked: list[int] = []
    counting = Teacher(build("convnet1", CLASSES).eval().requires_grad_(False), teacher.card)
    counting.network.forward = lambda seen: asked.append(len(seen)) or torch.zeros(len(seen), CLASSES)  # type: ignore[func-returns-value]
    config = settled(steps=8, label_stages=STAGES, hard_smoothing=0.8)
    test = (images, TRUTH)
    new_network = network_builder("convnet1", CLASSES, 3)
    # a copy of the teacher labels, whose forward is still the one above
    train_student(
        config, counting, images, new_network=new_network, test=test, seed=1, bar=Silent(), hard_labels=TRUTH
    )
    assert asked == [6] * 4
    with pytest.raises(InputError, match="label_stages needs the classes of the images"):
        train_student(config, counting, images, new_network=new_network, test=test, seed=1, bar=Silent())


def test_each_kind_goes_on_where_its_last_stage_ended(teacher: Teacher, images: Tensor) -> None:
    config = settled(steps=8, label_stages=STAGES, mix="none")

    def sources() -> tuple[AugmentedBatches, AugmentedBatches]:
        hard = config.model_copy(update={"labels": "hard"})
        return (
            AugmentedBatches(config, teacher, images, seed=1),
            AugmentedBatches(hard, teacher, images, seed=2, hard_labels=TRUTH),
        )

    staged = StagedBatches(config, *sources())
    found = list(islice(endless(staged), 8))
    soft, hard = (list(islice(endless(source), 4)) for source in sources())
    wanted = [*soft[:2], *hard, *soft[2:]]
    assert len(staged) == 2
    assert staged.smallest() == 6
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.images, other.images)
        assert (one.targets is None) == (other.targets is None)


def test_hard_stages_need_no_stored_labels(images: Tensor) -> None:
    """The labels of ten epochs, where students learn soft ones in five of them."""
    for stages, epochs in ((None, 10), (STAGES, 5)):
        config = settled(steps=None, epochs=10, label_stages=stages)
        planned = plan_labels(Labels(per="view"), config, images, classes=CLASSES, teachers=("t",), seed=0)
        assert planned.epochs == epochs


# -- pools and stored labels ----------------------------------------------------------------------


def labelled(
    teacher: Teacher, images: Tensor, folder: Path, how: Augmentation, **changes: Any
) -> StoredLabels:
    manifest = LabelManifest(
        images=images_fingerprint(images),
        teachers=("t",),
        classes=CLASSES,
        samples=len(images),
        epochs=3,
        augmentation=how,
        **changes,
    )
    return label_views({"t": teacher}, images, folder, manifest, name="x")


def test_once_draws_without_replacement_and_fills_the_pool_again() -> None:
    pool = LabelPool(samples=100, batch=10, epochs=5, keep=0.5)
    assert (pool.candidates, len(pool.kept)) == (10, 25)
    drawn = [batch for epoch in range(10) for batch in pool.once(3, epoch)]
    for start in range(0, 100, 25):  # each pass has every batch once, in an order of its own
        assert Counter(drawn[start : start + 25]) == Counter(pool.kept)
    assert drawn[:25] != drawn[25:50]
    assert pool.once(3, 4) == drawn[40:50]  # whatever was asked before
    assert pool.once(4, 4) != drawn[40:50]
    few = LabelPool(samples=100, batch=10, epochs=1, keep=0.3)
    assert Counter(few.once(0, 0)).most_common()[0][1] == 4  # three batches fill an epoch of ten


def test_pruned_labels_are_replayed_once(teacher: Teacher, images: Tensor, tmp_path: Path) -> None:
    stored = labelled(teacher, images, tmp_path / "l", Augmentation((8, 8), pad=1, batch=3), keep=0.5)
    config = settled(temperature=20.0, student_temperature=1.0)
    source = ReplayedBatches(config, teacher, images, stored, seed=3, replay="once")
    first: list[StudentBatch] = list(islice(endless(source), 6))
    seen = torch.cat([batch.targets for batch in first if batch.targets is not None])
    assert len(seen.unique(dim=0)) == 18


def test_replayed_views_go_on_in_the_middle_of_an_epoch(
    teacher: Teacher, images: Tensor, tmp_path: Path
) -> None:
    stored = labelled(teacher, images, tmp_path / "l", Augmentation((8, 8), pad=1, batch=3))
    whole = ReplayedBatches(settled(), teacher, images, stored, seed=3)
    restored = ReplayedBatches(settled(), teacher, images, stored, seed=3)
    done = len(whole) + 1
    restored.restore(whole.state(), done)
    wanted = list(islice(endless(whole), done, done + 2 * len(whole)))
    found = list(islice(endless(restored, done), 2 * len(whole)))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours.images, theirs.images)


def test_labels_without_a_rest_go_through_every_layout(
    teacher: Teacher, images: Tensor, tmp_path: Path
) -> None:
    how = Augmentation((8, 8), scale=(0.25, 1.0), batch=4, order="fkd")
    stored = labelled(teacher, images, tmp_path / "l", how, form="topk", k=2, rest="none")
    whole = labelled(teacher, images, tmp_path / "whole", how)
    ids = torch.arange(12)
    (_, two), (_, all_of_them) = stored.get(1, ids), whole.get(1, ids)
    index = all_of_them.topk(2).indices
    assert torch.equal(two.topk(2).indices, index)
    assert torch.equal(two.gather(1, index), all_of_them.gather(1, index))
    assert stored.manifest.bytes == 36 * bytes_per_label("topk", CLASSES, 2, "none") == 36 * 6
    export_fkd(stored, tmp_path / "fkd")
    back = import_fkd(tmp_path / "fkd", tmp_path / "back", images, CLASSES)
    assert torch.equal(back.get(1, ids)[1], two)
    again = StoredLabels.open(tmp_path / "l")
    assert again.manifest == stored.manifest
    text = (tmp_path / "l" / "manifest.json").read_text()
    assert '"rest": "none"' in text
    assert "rest" not in (tmp_path / "whole" / "manifest.json").read_text()  # as before there was a choice


def test_a_schedule_has_no_rest_unless_it_is_asked_for(images: Tensor) -> None:
    scheduled = settled(temperature=20.0, temperature_schedule={})
    for config, labels, rest in (
        (settled(), Labels(per="view", form="topk", topk=2), "spread"),
        (scheduled, Labels(per="view", form="topk", topk=2), "none"),
        (scheduled, Labels(per="view", form="topk", topk=2, rest="spread"), "spread"),
        (settled(), Labels(per="view", form="topk", topk=2, rest="none"), "none"),
    ):
        planned = plan_labels(labels, config, images, classes=CLASSES, teachers=("t",), seed=0)
        assert planned.rest == rest
        assert bool(warning_of(labels, config)) == (labels.rest == "spread")
    assert "right at temperature 20 alone" in warning_of(
        Labels(form="topk", topk=2, rest="spread"), scheduled
    )


# -- what does not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["labels=hard", "label_stages=[[soft, 1]]"], "but labels is hard; set labels to online or stored"),
        (["label_stages=[[soft, 0.5], [hard, 0.4]]"], "must add up to 1, got 0.9"),
        (["label_stages=[[warm, 1]]"], "got 'warm'"),
        (["label_stages=[]"], "label_stages"),
        (["loss=mse", "student_temperature=1"], "student_temperature needs loss kl, since loss mse has no"),
        (
            ["loss=cosine", "student_temperature=1"],
            "student_temperature needs loss kl, since loss cosine has no",
        ),
        (["loss=mse", "temperature_schedule={}"], "temperature_schedule needs loss kl"),
        (
            ["t_squared=true", "student_temperature=1"],
            "t_squared multiplies by the square of one temperature",
        ),
        (["temperature=1", "temperature_schedule={}"], "set low to at most temperature"),
        (["temperature_schedule.factor=1"], "factor"),
        (["hard_part=0.1"], "hard_part needs loss cosine, got loss kl"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        resolve_student({}, None, [f"student.{text}" for text in overrides])
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_labels_without_a_rest_are_refused_where_logits_are_learned(images: Tensor) -> None:
    config = settled(loss="mse")
    with pytest.raises(InputError, match=r"student.loss mse takes logits; set labels.rest=spread"):
        plan_labels(
            Labels(per="view", form="topk", rest="none"),
            config,
            images,
            classes=CLASSES,
            teachers=("t",),
            seed=0,
        )


# -- presets --------------------------------------------------------------------------------------


def test_presets_have_the_released_values() -> None:
    lpqld, hald, gift = (resolve_student({}, name) for name in ("lpqld-imagenet", "hald-imagenet", "gift"))
    schedule = lpqld.temperature_schedule
    assert schedule == TemperatureSchedule(kind="step", low=2, factor=0.7, every=0.1)
    assert (lpqld.temperature, lpqld.student_temperature, lpqld.t_squared) == (20, 1, False)
    assert (lpqld.batch, lpqld.epochs, lpqld.test_every, lpqld.reported) == (128, 300, 50, "best")
    large = resolve_student({}, "lpqld-imagenet21k")
    assert (large.batch, large.lr, large.student_temperature) == (32, 2e-3, 1)
    assert hald.label_stages == (("soft", 0.25), ("hard", 0.5), ("soft", 0.25))
    assert (hald.hard_smoothing, hald.batch, hald.teacher_mode, hald.stretch) == (0.8, 16, "train", 2)
    assert (gift.loss, gift.hard_part, gift.hard_smoothing, gift.mix) == ("cosine", 0.1, 0.1, "none")
    soft, hard, sgd = (resolve_student({}, f"rethinkdc-{name}") for name in ("soft", "hard", "sgd"))
    assert [each.labels for each in (soft, hard, sgd)] == ["online", "hard", "hard"]
    assert (soft.mix, hard.mix, sgd.optimizer, sgd.lr) == ("cutmix", "none", "sgd", 0.1)
    assert preset("hald-imagenet")["label_stages"] is not None
