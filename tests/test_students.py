"""Students: augmentation, optimizers, losses and test passes against independent references; networks for
students."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn

from fastdd import labels
from fastdd.config import RandAugment, Student
from fastdd.errors import InputError
from fastdd.evaluate import (
    AugmentedBatches,
    ReplayedBatches,
    StudentBatch,
    StudentBatches,
    TrainedStudent,
    train_student,
)
from fastdd.evaluate.batches import shuffle_patches, siamese_batch
from fastdd.evaluate.learner import student_optimizer
from fastdd.evaluate.loss import add_gradient, student_loss
from fastdd.evaluate.randaugment import TABLES, randaugment
from fastdd.models.build import build, network_builder, to_device
from fastdd.models.outline import outline
from fastdd.protocols import SettledStudent, settle_student
from fastdd.teachers import Card, Teacher
from fastdd_kernels import siamese_augment, siamese_draws

CLASSES = 4
CONFIG = Student(network="convnet1", steps=2, batch=6, pad=1, flip=0.0, mix="none", evaluations=1, lr=0.01)


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


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (12, 3, 8, 8), generator=draw(), dtype=torch.uint8)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(images: int = 12, **changes: Any) -> SettledStudent:
    """The protocol with some values of its own, for a set of this many images."""
    return settle_student(Student.model_validate({**CONFIG.model_dump(), **changes}), images, CLASSES)


def batches(
    config: SettledStudent, teacher: Teacher, images: Tensor, hard: Tensor | None = None
) -> list[StudentBatch]:
    return list(AugmentedBatches(config, teacher, images, seed=1, hard_labels=hard).epoch(0))


def train(
    config: SettledStudent,
    teacher: Teacher,
    images: Tensor,
    soft: Tensor | StudentBatches | None = None,
    *,
    hard: Tensor | None = None,
) -> TrainedStudent:
    """Train a student and test it on its own images."""
    test = (images, torch.arange(len(images)) % CLASSES)
    return train_student(
        config,
        teacher,
        images,
        new_network=network_builder(config.network, CLASSES, images.shape[1]),
        test=test,
        seed=1,
        bar=Silent(),
        soft_labels=soft,
        hard_labels=hard,
    )


# -- RandAugment ----------------------------------------------------------------------------------

GRADIENT = torch.stack(
    [
        torch.arange(256, dtype=torch.uint8).view(16, 16),
        torch.arange(255, -1, -1).to(torch.uint8).view(16, 16),
        (torch.arange(256) * 3 % 256).to(torch.uint8).view(16, 16),
    ]
)
PIL_OPERATIONS = {
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "invert": lambda image, m: ImageOps.invert(image),
    "posterize": lambda image, m: ImageOps.posterize(image, int(4 * m)),
    "solarize": lambda image, m: ImageOps.solarize(image, int(256 * m)),
    "solarize_add": lambda image, m: image.point(lambda i: min(255, i + int(110 * m)) if i < 128 else i),
    "color": lambda image, m: ImageEnhance.Color(image).enhance(1.8 * m + 0.1),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1.8 * m + 0.1),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1.8 * m + 0.1),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1.8 * m + 0.1),
}


@pytest.mark.parametrize("name", PIL_OPERATIONS)
@pytest.mark.parametrize("magnitude", [0.6, 0.75])
def test_timms_color_operations_are_pils(name: str, magnitude: float) -> None:
    ours = TABLES["timm"][name](GRADIENT[None], magnitude, 1.0)[0]
    theirs = PIL_OPERATIONS[name](Image.fromarray(GRADIENT.permute(1, 2, 0).numpy()), magnitude)
    wanted = torch.frombuffer(bytearray(theirs.tobytes()), dtype=torch.uint8).view(16, 16, 3).permute(2, 0, 1)
    assert int((ours.int() - wanted.int()).abs().max()) <= 2  # luminance is rounded otherwise


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_timms_geometry_is_pils(name: str, sign: float) -> None:
    smooth = (128 + 100 * torch.sin(torch.arange(32) / 5)).to(torch.uint8)
    picture = torch.stack(
        [smooth.expand(32, 32), smooth[:, None].expand(32, 32), smooth.expand(32, 32).T.flip(0)]
    )
    amounts = {
        "shear": sign * 0.3 * 0.6,
        "translate": -round(sign * 0.45 * 0.6 * 32),
    }  # PIL's are of the source
    kind, _, axis = name.partition("_")
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    if name == "rotate":
        theirs = image.rotate(sign * 30 * 0.6, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)
    else:
        coefficients = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        coefficients[{"shear_x": 1, "shear_y": 3, "translate_x": 2, "translate_y": 5}[name]] = amounts[kind]
        theirs = image.transform(
            image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=(128,) * 3
        )
    wanted = torch.frombuffer(bytearray(theirs.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
    ours = TABLES["timm"][name](picture[None], 0.6, sign)[0]
    gap = (ours.int() - wanted.int()).abs().float()
    assert float(gap.mean()) < 4, f"{name}: {axis}"  # PIL samples half a pixel away
    assert (
        float((TABLES["timm"][name](picture[None], 0.6, -sign)[0].int() - wanted.int()).abs().float().mean())
        > 8
    )


def test_torchvisions_table_is_torchvisions() -> None:
    """magnitude 3 of 10 is 9 of torchvision's 30."""
    reference = torch.randint(0, 256, (1, 3, 32, 32), generator=draw(), dtype=torch.uint8)
    table = TABLES["torchvision"]
    nearest = V.InterpolationMode.NEAREST
    for sign in (-1.0, 1.0):
        wanted = {
            "brightness": V.adjust_brightness(reference, 1 + sign * 0.27),
            "posterize": V.posterize(reference, 7),
            "solarize": V.solarize(reference, 178.5),
            "rotate": V.rotate(reference, sign * 9.0, nearest, fill=[0.0]),
            "shear_x": V.affine(
                reference,
                0.0,
                [0, 0],
                1.0,
                [math.degrees(math.atan(sign * 0.09)), 0.0],
                nearest,
                fill=[0.0],
                center=[0.0, 0.0],
            ),
            "translate_y": V.affine(
                reference,
                0.0,
                [0, int(sign * round(150 / 331 * 32 * 0.3))],
                1.0,
                [0.0, 0.0],
                nearest,
                fill=[0.0],
            ),
            "identity": reference,
        }
        for name, value in wanted.items():
            assert torch.equal(table[name](reference, 0.3, sign), value), name
    assert len(table) == 14
    assert len(TABLES["timm"]) == 15


def test_randaugment_draws_for_every_image_and_from_its_generator_alone(images: Tensor) -> None:
    config, kept = RandAugment(magnitude=6, deviation=1, table="timm"), images.clone()
    one = randaugment(images, config, draw(1))
    torch.manual_seed(5)
    assert torch.equal(one, randaugment(images, config, draw(1)))
    assert not torch.equal(one, randaugment(images, config, draw(2)))
    assert torch.equal(images, kept)
    same = images[:1].expand(12, -1, -1, -1)
    assert len({bytes(image.numpy().tobytes()) for image in randaugment(same, config, draw(1))}) > 6
    assert torch.equal(randaugment(images, config.model_copy(update={"probability": 0.0}), draw(1)), images)


# -- augmentation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "count"), [(8, 2), (9, 2), (10, 3)])
def test_patches_are_shuffled_whole(side: int, count: int) -> None:
    place = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side).expand(50, 1, side, side)
    shuffled = shuffle_patches(place, count, draw())
    rows, columns = (shuffled[:, 0, :, 0] // side).long(), (shuffled[:, 0, 0] % side).long()
    assert torch.equal(shuffled[:, 0], (rows[:, :, None] * side + columns[:, None]).float())
    bounds = [side // count * i for i in range(1, count)]
    strips = [tuple(s.tolist()) for s in torch.arange(side).tensor_split(bounds)]
    seen = set()
    for order in [*rows.tolist(), *columns.tolist()]:
        left = list(order)
        found = []
        while left:
            strip = next(s for s in strips if tuple(left[: len(s)]) == s)
            found.append(strips.index(strip))
            left = left[len(strip) :]
        assert sorted(found) == list(range(count))
        seen.add(tuple(found))
    assert len(seen) == math.factorial(count)


def test_black_padding_is_what_torchvisions_random_crop_pads_with(teacher: Teacher, images: Tensor) -> None:
    """Shifted images, found again among all 9 shifts of the padded levels, normalized afterwards."""
    (batch,) = batches(changed(pad_color="black", batch=12), teacher, images)
    padded = F.pad(images, (1, 1, 1, 1))
    shifts = [padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    known = torch.stack([teacher.normalize(shifted) for shifted in shifts]).flatten(0, 1)
    gaps = (batch.images[:, None] - known[None]).abs().amax((2, 3, 4)).min(1).values
    assert float(gaps.max()) < 1e-5
    (mean,) = batches(changed(batch=12), teacher, images)
    assert not torch.allclose(mean.images, batch.images)


def test_a_crop_of_the_whole_image_is_the_image(teacher: Teacher, images: Tensor) -> None:
    """RDED's crop where the mosaic is one patch."""
    (batch,) = batches(changed(scale=[1.0, 1.0], batch=12), teacher, images)
    gaps = (batch.images[:, None] - teacher.normalize(images)[None]).abs().amax((2, 3, 4)).min(1).values
    assert float(gaps.max()) < 1e-5
    (cropped,) = batches(changed(scale=[0.3, 0.5], batch=12), teacher, images)
    assert cropped.images.shape == (12, 3, 8, 8)
    assert not torch.allclose(cropped.images, batch.images)


def test_a_set_too_large_to_keep_normalized_gives_the_same_batches(
    teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(mix="cutmix", flip=0.5)
    once = batches(config, teacher, images)
    monkeypatch.setattr("fastdd.evaluate.batches.KEPT_BYTES", 0)
    again = batches(config, teacher, images)
    assert len(once) == 2
    assert all(torch.equal(a.images, b.images) for a, b in zip(once, again, strict=True))


def test_classes_stay_with_their_images(teacher: Teacher, images: Tensor) -> None:
    flat = (torch.arange(12, dtype=torch.uint8) * 20).view(12, 1, 1, 1).expand(12, 3, 8, 8).contiguous()
    found = batches(changed(scale=[0.5, 1.0], batch=5), teacher, flat, torch.arange(12))
    hard = torch.cat([batch.hard_labels for batch in found if batch.hard_labels is not None])
    levels = teacher.denormalize(torch.cat([batch.images for batch in found]))[:, 0, 4, 4] * 255 / 20
    assert torch.equal(hard, levels.round().long())
    assert hard.sort().values.tolist() == list(range(12))


# -- labels that come with their views ------------------------------------------------------------


def test_stored_views_are_labelled_as_the_student_sees_them(
    teacher: Teacher, images: Tensor, tmp_path: Path
) -> None:
    how = labels.Augmentation((8, 8), scale=(0.3, 1.0), mix="cutmix", batch=5)
    manifest = labels.LabelManifest(
        images=labels.images_fingerprint(images),
        teachers=("t",),
        classes=CLASSES,
        samples=12,
        epochs=2,
        augmentation=how,
    )
    stored = labels.label_views({"t": teacher}, images, tmp_path / "labels", manifest, name="x")
    source = ReplayedBatches(
        changed(batch=7), teacher, images, stored, seed=3, hard_labels=torch.arange(12) % CLASSES
    )
    assert (len(source), source.smallest()) == (2, 5)
    for batch in source.epoch(1):
        assert batch.targets is not None
        torch.testing.assert_close(batch.targets, teacher.network(batch.images), atol=2e-3, rtol=2e-3)
        assert batch.hard_labels is not None
    result = train(changed(), teacher, images, source)
    assert [step for step, _ in result.curve] == [2]


# -- loss and optimizer ---------------------------------------------------------------------------


def test_losses_are_the_formulas_written_out(teacher: Teacher, images: Tensor) -> None:
    torch.manual_seed(1)
    student, batch = build("convnet1", CLASSES), teacher.normalize(images)
    hard = torch.arange(12) % CLASSES
    out, wanted = student(batch).double(), teacher.network(batch).double()
    p, q = F.softmax(wanted / 20, 1), F.softmax(out / 20, 1)
    divergence = (p * (p / q).log()).sum() / 12
    cross = -F.softmax(out, 1).log()[torch.arange(12), hard].mean()
    for changes, value in (
        ({"temperature": 20.0, "t_squared": True}, 400 * divergence),
        ({"temperature": 20.0, "hard_weight": 0.5}, divergence + 0.5 * cross),
        ({"loss": "mse"}, ((out - wanted) ** 2).mean()),
        ({"loss": "mse", "hard_weight": 0.025}, ((out - wanted) ** 2).mean() + 0.025 * cross),
    ):
        found = student_loss(
            student, teacher.network, batch, None, config=changed(**changes), hard_labels=hard
        )
        rounding = 1e-7 * (400 if "t_squared" in changes else 1)  # of logarithms that nearly cancel
        assert found.item() == pytest.approx(value.item(), rel=1e-4, abs=rounding), changes


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_a_batch_add_up_to_its_gradient(teacher: Teacher, images: Tensor, parts: int) -> None:
    """InstanceNorm has no statistics of the batch; a part counts by its images."""
    torch.manual_seed(1)
    student, found = build("convnet1", CLASSES), []
    batch = StudentBatch(teacher.normalize(images), None, torch.arange(12) % CLASSES)
    for count in (1, parts):
        student.zero_grad()
        config = changed(accumulate=count, hard_weight=0.3)
        add_gradient(student_loss, student, teacher.network, batch, config=config)
        found.append([p.grad for p in student.parameters()])
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-6)


def test_only_weights_of_two_dimensions_decay_where_it_is_split() -> None:
    network = build("vit_small32", CLASSES)
    decayed, others = student_optimizer(changed(decay_norms=False, weight_decay=0.3), network).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    inside, outside = ({names[id(p)] for p in group["params"]} for group in (decayed, others))
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert "conv_proj.weight" in inside
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in inside
    assert {"class_token", "encoder.pos_embedding", "encoder.ln.weight", "conv_proj.bias"} <= outside
    assert inside | outside == set(names.values())
    assert len(student_optimizer(changed(), network).param_groups) == 1


def test_sgd_takes_the_step_written_out(
    teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Tensor]] = []

    def look(network: nn.Module, *rest: Any) -> float:
        seen.append({name: value.clone() for name, value in network.named_parameters()})
        return 0.0

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    config = changed(
        optimizer="sgd", lr=0.1, weight_decay=0.5, schedule="constant", batch=12, pad=0, evaluations=2
    )
    train(config, teacher, images)
    student = build("convnet1", CLASSES)
    student.load_state_dict(seen[0])
    loss = student_loss(student, teacher.network, teacher.normalize(images), None, config=config)
    loss.backward()
    # the second step gives the momentum after the first, and that where the first began: for norms at 1 and 0
    for name, p in student.named_parameters():
        assert p.grad is not None
        step = (seen[0][name] - seen[1][name]) / 0.1
        momentum = (step - p.grad - 0.5 * seen[0][name]) / 0.9
        start = seen[0][name] + 0.1 * momentum
        if name in ("features.1.weight", "features.1.bias"):
            wanted = torch.full_like(start, name.endswith("weight"))
            torch.testing.assert_close(start, wanted, rtol=0, atol=1e-4)


def test_the_average_is_tested(teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def look(network: nn.Module, *rest: Any) -> float:
        seen.append(network.classifier.weight.detach().clone())  # type: ignore[union-attr]
        return 0.0

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    for ema in (0.0, 0.9):
        train(changed(ema=ema, steps=3, evaluations=3), teacher, images)
    weights, averages = seen[:3], seen[3:]
    torch.testing.assert_close(averages[1], averages[0] + (1 - 2 / 11) * (weights[1] - averages[0]))
    torch.testing.assert_close(averages[2], averages[1] + (1 - 3 / 12) * (weights[2] - averages[1]))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"epochs": 5, "steps": None, "test_every": 2}, [4, 8, 10]),
        ({"steps": 9, "test_every": 2}, [4, 8, 9]),
        ({"steps": 10, "evaluations": 5, "best_from": 0.4}, [6, 8, 10]),
        ({"steps": 3, "test_every": 9}, [3]),
    ],
)
def test_test_passes(
    teacher: Teacher,
    images: Tensor,
    changes: dict[str, Any],
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastdd.evaluate.student._test", lambda *arguments: 0.25)
    result = train(changed(**changes), teacher, images)
    assert [step for step, _ in result.curve] == steps


def test_a_compiled_step_is_the_plain_one(
    teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def look(network: nn.Module, *rest: Any) -> float:
        seen.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        return 0.0

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    compile, graphs = torch.compile, []

    def compiled(function: Any, **how: Any) -> Any:
        return compile(function, backend=lambda graph, example: graphs.append(graph) or graph.forward, **how)

    monkeypatch.setattr(torch, "compile", compiled)
    for compiling in (False, True):
        config = changed(compile=compiling, batch=12, steps=4, mix="mixup", hard_weight=0.1)
        train(config, teacher, images, hard=torch.arange(12) % CLASSES)
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1  # teacher, student and loss, for all steps


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "changes"), [(1, {}), (9, {"batch": 4}), (12, {"batch": 4, "accumulate": 4})]
)
def test_a_batch_of_one_image_has_no_statistics(
    teacher: Teacher, images: Tensor, count: int, changes: dict[str, Any]
) -> None:
    few = images[:count]
    with pytest.raises(InputError, match=r"resnet8 has BatchNorm.*student.batch=.*single one"):
        train(changed(count, network="resnet8", **changes), teacher, few)
    train(changed(count, **changes), teacher, few)  # InstanceNorm needs none


def test_labels_that_do_not_fit(teacher: Teacher, images: Tensor) -> None:
    with pytest.raises(InputError, match=r"stored labels are \[12, 5\], expected \[12, 4\]"):
        train(changed(), teacher, images, torch.zeros(12, 5))
    with pytest.raises(InputError, match=r"stored labels are \[11, 4\]"):
        train(changed(), teacher, images, torch.zeros(11, 4))
    with pytest.raises(InputError, match=r"hard_weight 0\.5 needs the classes"):
        train(changed(hard_weight=0.5), teacher, images)
    with pytest.raises(InputError, match="classes up to 9 do not fit"):
        train(changed(hard_weight=0.5), teacher, images, hard=torch.full((12,), 9))


# -- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("convnet3", 320_010),
        ("convnet3_bn", 320_010),
        ("resnet18_small", 11_173_962),
        ("vgg11_bn_small", 9_231_114),
        ("vgg16_small", 14_719_818),
        ("mobilenet_v2_small", 2_236_682),
        ("resnet50_small", 23_520_842),
    ],
)
def test_networks_have_the_known_sizes(name: str, parameters: int) -> None:
    network = outline("x", name, 10, (3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mobilenet_v2_small", 4),
        ("efficientnet_b0_small", 2),
        ("shufflenet_v2_x1_0_small", 4),
        ("vgg16_bn_small", 1),
        ("resnet18_small", 4),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_small_variants_keep_pixels(name: str, side: int, channels: int) -> None:
    """Pixels that the last convolution leaves of 32; torchvision's own leave 1."""
    with torch.device("meta"):
        network, seen = build(name, 7, channels).eval(), []
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        assert network(torch.zeros(1, channels, 32, 32)).shape == (1, 7)
        large = [shape for shape in seen if shape[2] > 1]  # EfficientNet also convolves means of whole images
    assert (large[-1][2] if side > 1 else seen[-1][2] // 2) == side


def test_the_convnet_is_the_matching_methods() -> None:
    network = build("convnet3", 10)
    x = torch.randn(5, 3, 32, 32)
    by_hand = x
    for number in range(3):
        convolution = network.features[4 * number]  # type: ignore[index]
        by_hand = F.avg_pool2d(F.relu(F.instance_norm(convolution(by_hand))), 2)
    torch.testing.assert_close(network(x), network.classifier(by_hand.flatten(1)))  # type: ignore[operator]


@pytest.mark.parametrize(("name", "side"), [("convnet3", 64), ("convnet4", 32), ("vit_small32", 64)])
def test_networks_of_one_size_refuse_others(name: str, side: int) -> None:
    with pytest.raises(
        InputError, match=rf"student.network: {name} cannot take images of 3 x {side} x {side}"
    ):
        outline("student.network", name, 10, (3, side, side))
    assert Student(network=name).network == name


def test_students_and_their_teachers_see_images_in_their_own_memory_format() -> None:
    """A student with GroupNorm is slow on a CPU in channels-last, and its ResNet teacher is not."""
    labeller, student = (
        to_device(build(name, CLASSES), torch.device("cpu")) for name in ("resnet8", "convnet1")
    )
    layouts: list[tuple[bool, bool]] = []

    def note(network: nn.Module, inputs: tuple[Tensor]) -> None:
        contiguous = inputs[0].is_contiguous()
        layouts.append((contiguous, inputs[0].is_contiguous(memory_format=torch.channels_last)))

    for network in (labeller.eval(), student):
        network.register_forward_pre_hook(note)
    images = torch.rand(4, 3, 8, 8)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        student_loss(student, labeller, given, None, config=CONFIG)
    assert layouts == 2 * [(False, True), (True, False)]


# -- Siamese augmentation -------------------------------------------------------------------------


def siamese(images: Tensor, seed: int = 0, **changes: Any) -> Tensor:
    return siamese_batch(images, changed(**changes), draw(seed))


def test_a_batch_has_one_operation_and_each_image_its_own_parameters() -> None:
    """Of color and cutout: a batch is all colored, and has no square of zeros, or is all cut."""
    images, kinds = torch.rand(6, 3, 8, 8, generator=draw()) + 1, set()
    for seed in range(12):
        found = siamese(images, seed, siamese=("color", "cutout"))
        holes = (found == 0).all(1)
        kinds.add(bool(holes.any()))
        if holes.any():
            assert holes.flatten(1).any(1).all()
            assert torch.equal(found, images * ~holes[:, None])
            assert len(holes.unique(dim=0)) > 1
        else:
            assert len((found - images).mean((1, 2, 3)).unique()) == len(images)
    assert kinds == {False, True}


def test_a_flipped_batch_has_flipped_and_plain_images() -> None:
    images = torch.rand(12, 3, 8, 8, generator=draw())
    found = siamese(images, siamese=("flip",))
    flipped = torch.tensor([torch.equal(y, x.flip(2)) for x, y in zip(images, found, strict=True)])
    plain = torch.tensor([torch.equal(y, x) for x, y in zip(images, found, strict=True)])
    assert (flipped ^ plain).all()
    assert flipped.any()
    assert plain.any()


def test_operations_that_are_always_done_are_done_together() -> None:
    """IDC's color, crop and cutout: the kernel's draw of all of them, from the same generator."""
    images = torch.rand(6, 3, 8, 8, generator=draw())
    operations = ("color", "crop", "cutout")
    rows = siamese_draws(6, 8, 8, operations, together=True, generator=draw(5))
    assert torch.equal(siamese(images, 5, siamese_always=operations), siamese_augment(images, rows))
    both = siamese(images + 1, 5, siamese=("cutout",), siamese_always=("color",))
    holes = (both == 0).all(1)
    assert holes.flatten(1).any(1).all()
    assert not torch.isclose(both, images + 1).all(1)[~holes].any()


def test_without_operations_nothing_is_drawn(teacher: Teacher, images: Tensor) -> None:
    """So that students of protocols without them keep their batches."""
    generator, given = draw(3), torch.rand(2, 3, 8, 8)
    before = generator.get_state()
    assert siamese_batch(given, changed(), generator) is given
    assert torch.equal(generator.get_state(), before)
    first, again, other = (
        torch.cat([batch.images for batch in batches(changed(siamese=operations), teacher, images)])
        for operations in (("color",), ("color",), None)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_some_batches_are_mixed(teacher: Teacher) -> None:
    """One level an image, which mixing alone changes; with probability 1 nothing is drawn for it."""
    levels = torch.arange(0, 240, 20, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 8, 8)
    own = dict.fromkeys(teacher.normalize(levels)[:, 0, 0, 0].tolist())

    def mixed(**changes: Any) -> list[bool]:
        config = changed(batch=2, pad=0, mix="mixup", **changes)
        source = AugmentedBatches(config, teacher, levels, seed=1)
        parts = [batch.images[:, 0, 0, 0].tolist() for epoch in range(20) for batch in source.epoch(epoch)]
        return [not set(part) <= own.keys() for part in parts]

    # the permutation of two images is the identity in half of the mixed batches
    assert not any(mixed(mix_probability=0.0))
    always, half = sum(mixed()), sum(mixed(mix_probability=0.5))
    assert 40 < always < 80
    assert 15 < half < 45


def test_momentum_is_forgotten_at_a_milestone(
    teacher: Teacher, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of released code, which makes a new SGD after the step at the higher rate."""
    seen: list[dict[str, Tensor]] = []
    initial: list[dict[str, Tensor]] = []

    def look(network: nn.Module, *rest: object) -> float:
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return 0.0

    def remembered() -> nn.Module:
        network = build("convnet1", CLASSES)
        initial.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return network

    monkeypatch.setattr("fastdd.evaluate.student._test", look)
    truth = torch.arange(len(images)) % CLASSES
    shared: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "labels": "hard"}
    shared |= {"schedule": "multistep", "milestones": (0.5,), "steps": 6, "batch": 12, "pad": 0}
    for restart in (True, False):
        train_student(
            changed(**shared, restart_momentum=restart),
            teacher,
            images,
            new_network=remembered,
            test=(images, truth),
            seed=1,
            bar=Silent(),
            hard_labels=truth,
        )
        network = build("convnet1", CLASSES)
        network.load_state_dict(initial[-1])
        optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4)
        for step in range(6):  # a batch is the whole set, so its order says nothing
            if step == 3 and restart:
                optimizer = torch.optim.SGD(network.parameters(), 0.001, 0.9, weight_decay=5e-4)
            optimizer.param_groups[0]["lr"] = 0.01 if step < 3 else 0.001
            optimizer.zero_grad()
            F.cross_entropy(network(teacher.normalize(images)), truth).backward()
            optimizer.step()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(seen[-1][name], tensor, rtol=1e-4, atol=1e-6)
    weights = [state["classifier.weight"] for state in seen]
    assert not torch.allclose(weights[0], weights[1], rtol=1e-3, atol=1e-5)
