"""Teachers: networks, and weights with their cards."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from galleries import pixels
from torch import Tensor, nn
from torchvision import models

from fastdd.config import Teacher as TeacherConfig
from fastdd.data import open_dataset
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.models.outline import outline
from fastdd.runtime.files import write_tensors
from fastdd.teachers import (
    Card,
    Teacher,
    accuracy,
    differences,
    fingerprint,
    initial_network,
    load_teacher,
    open_teacher,
    save_teacher,
)

CPU = torch.device("cpu")

# -- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet20", 269_722), ("resnet8", 75_290), ("resnet32", 464_154)]
)
def test_cifar_resnets_have_the_papers_size(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name, 10).parameters()) == parameters


def test_small_stem() -> None:
    network = build("resnet18_small", 7, channels=1)
    assert network.conv1.weight.shape == (64, 1, 3, 3)
    assert [s.shape for s in (network(torch.zeros(2, 1, 16, 16)),)] == [(2, 7)]
    assert sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)) == 4800


def test_option_a_shortcut() -> None:
    """With silent residual branches a stage is the shortcut: every second pixel, zeros on both sides."""
    network = build("resnet8", 10)
    for block in (network.layer2[0], network.layer3[0]):
        nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    y = network.layer3(network.layer2(x))
    assert torch.equal(y[:, 24:40], x[:, :, ::4, ::4])
    assert not y[:, :24].any()
    assert not y[:, 40:].any()


def test_unknown_networks_and_channels() -> None:
    with pytest.raises(InputError, match=r"unknown network 'resnet21'.*did you mean 'resnet"):
        build("resnet21", 10)
    with pytest.raises(InputError, match=r"'resnet18' takes 3 channels.*data\.channels is 1"):
        build("resnet18", 10, channels=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v3", "regnet_y_400mf", "efficientnet_b0", "convnext_tiny"]
)
def test_torchvision_networks_give_logits_in_training_too(name: str) -> None:
    network = outline("teacher.network", name, 7, (3, 96, 96)).train()
    assert network(torch.zeros(2, 3, 96, 96, device="meta")).shape == (2, 7)
    assert all(p.is_meta for p in network.parameters())


def test_auxiliary_classifiers_of_a_file_are_left_out(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = models.get_model("googlenet", num_classes=10, aux_logits=True)
    write_tensors(tmp_path / "t.safetensors", theirs.state_dict())
    config = TeacherConfig(network="googlenet")
    loaded = load_teacher(tmp_path / "t.safetensors", config, CLASSES, 3, device=CPU)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.network(x), theirs.eval()(x))


def test_outline_pushes_an_image_through() -> None:
    assert isinstance(outline("teacher.network", "resnet8", 10, (1, 8, 8)), nn.Module)
    for name in ("vgg11_bn", "vit_b_16"):
        with pytest.raises(InputError, match=rf"student\.network: {name} cannot take images of 3 x 8 x 8"):
            outline("student.network", name, 10, (3, 8, 8))


# -- pixels ---------------------------------------------------------------------------------------


def teacher(**changes: object) -> Teacher:
    card = Card("resnet8", tuple("0123456789"), 1, (0.305,), (0.376,))
    network = build("resnet8", 10, 1).eval().requires_grad_(False)
    return Teacher(network, replace(card, **changes))  # type: ignore[arg-type]


def test_every_grey_value_survives() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    colors = teacher(channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    normalized = colors.normalize(values)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((colors.denormalize(normalized) * 255).round(), values.float())
    low, high = colors.bounds(CPU)
    torch.testing.assert_close(normalized[0, :, 0, 0], low.flatten())
    torch.testing.assert_close(normalized[0, :, -1, -1], high.flatten())


# -- weights and cards ----------------------------------------------------------------------------

CONFIG = TeacherConfig(
    network="resnet8", mean=(0.305,), std=(0.376,), epochs=4, batch=50, lr=0.1, pad=1, flip=0.0
)
CLASSES = tuple("0123456789")


def load(
    path: Path, config: TeacherConfig = CONFIG, classes: tuple[str, ...] = CLASSES, channels: int = 1
) -> Teacher:
    return load_teacher(path, config, classes, channels, device=CPU)


def test_save_and_load(tmp_path: Path) -> None:
    saved = teacher(accuracy=0.75)
    save_teacher(tmp_path / "t.safetensors", saved)
    loaded = load(tmp_path / "t.safetensors")
    assert loaded.card == saved.card
    state = loaded.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in saved.network.state_dict().items())
    assert not loaded.network.training
    first = fingerprint(tmp_path / "t.safetensors")
    save_teacher(tmp_path / "t.safetensors", saved)
    assert fingerprint(tmp_path / "t.safetensors") == first


def test_weights_from_elsewhere_have_no_card(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t.safetensors", teacher().network.state_dict())
    assert load(tmp_path / "t.safetensors").card == Card("resnet8", CLASSES, 1, CONFIG.mean, CONFIG.std)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mean": (0.5,)}, "mean"),
        ({"std": (0.5,)}, "std"),
        ({"network": "resnet20"}, "network"),
        ({"channels": 3, "mean": (0.3,) * 3, "std": (0.4,) * 3}, "channels"),
    ],
)
def test_a_card_of_something_else(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    save_teacher(tmp_path / "t.safetensors", teacher(**change))
    with pytest.raises(InputError, match=rf"t\.safetensors was made for {expected} .*this run has"):
        load(tmp_path / "t.safetensors")


def test_a_teacher_of_another_network_is_told_with_the_overrides_that_take_it(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_teacher(path, teacher(network="resnet20", mean=(0.25,)))
    with pytest.raises(InputError) as caught:
        load(path)
    text = "to use it add teacher.network=resnet20 teacher.mean=[0.25]"
    assert str(caught.value).endswith(text)
    write_tensors(path, build("convnet2", 10, 1).state_dict())  # without a card
    with pytest.raises(InputError) as caught:
        load(path)
    text = "its tensors are those of convnet2: to use it add teacher.network=convnet2, and teacher.mean"
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("012345678x", r"class 9 is 'x' there and '9' in the data; use a teacher of these classes"),
        ("0213456789", r"class 1 is '2' there and '1' in the data \(the same names in another order\)"),
        ("012", r"made for 3 classes, but the data has 10"),
    ],
)
def test_a_card_of_other_classes(tmp_path: Path, classes: str, expected: str) -> None:
    save_teacher(tmp_path / "t.safetensors", teacher(classes=tuple(classes)))
    with pytest.raises(InputError, match=rf"teacher\.weights: .*t\.safetensors was .*{expected}"):
        load(tmp_path / "t.safetensors")


def test_a_whole_card_and_one_of_an_earlier_version(tmp_path: Path) -> None:
    card = teacher(size=(8, 8), data="d1", training={"epochs": 3, "scale": [0.5, 1.0]}, accuracy=0.5).card
    save_teacher(tmp_path / "t.safetensors", Teacher(teacher().network, card))
    assert load(tmp_path / "t.safetensors").card == card
    early = {"network": "resnet8", "classes": list(CLASSES), "channels": 1, "mean": [0.305], "std": [0.376]}
    write_tensors(tmp_path / "t.safetensors", teacher().network.state_dict(), {"fastdd": json.dumps(early)})
    assert load(tmp_path / "t.safetensors").card == teacher().card
    assert differences(card, replace(card, size=(16, 16)), ("size", "mean")) == [
        "made for size (8, 8), used with (16, 16)"
    ]
    assert not differences(teacher().card, card, ("size",))


@pytest.mark.parametrize("card", ["{", "3", '{"network": "resnet8"}', '{"color": "red"}'])
def test_a_damaged_card(tmp_path: Path, card: str) -> None:
    write_tensors(tmp_path / "t.safetensors", teacher().network.state_dict(), {"fastdd": card})
    with pytest.raises(InputError, match=r"the card in .*t\.safetensors cannot be read"):
        load(tmp_path / "t.safetensors")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"

    def message(state: dict[str, Tensor], **arguments: object) -> str:
        write_tensors(path, state)
        with pytest.raises(InputError) as caught:
            load(path, **arguments)  # type: ignore[arg-type]
        assert "t.safetensors" in str(caught.value)
        return str(caught.value)

    state = teacher().network.state_dict()
    assert "'conv1.weight' is missing (1 in all)" in message(
        {k: v for k, v in state.items() if k != "conv1.weight"}
    )
    assert "unknown tensor 'extra' (1 in all)" in message({**state, "extra": torch.zeros(1)})
    wrong = message({**state, "conv1.weight": torch.zeros(16, 3, 3, 3)})
    assert "conv1.weight is [16, 3, 3, 3], expected [16, 1, 3, 3]" in wrong
    assert "number of classes differs" not in wrong
    classes = message(state, classes=tuple("abcd"))
    assert "linear.weight is [10, 64], expected [4, 64]" in classes
    assert "number of classes differs" in classes
    assert "is no resnet20" in message(state, config=CONFIG.model_copy(update={"network": "resnet20"}))


def test_errors_name_the_section_of_a_committee_member(tmp_path: Path) -> None:
    absent = str(tmp_path / "nowhere.safetensors")
    with pytest.raises(InputError, match=r"^committee\.big\.weights: .*nowhere"):
        load_teacher(Path(absent), CONFIG, CLASSES, 1, device=CPU, key="committee.big.weights")
    config, card = CONFIG.model_copy(update={"init": absent}), teacher().card
    with pytest.raises(InputError, match=r"^committee\.big\.init: .*nowhere"):
        initial_network(config, card, 0, key="committee.big")
    path = tmp_path / "t.safetensors"
    save_teacher(path, teacher(classes=tuple("012345678x")))
    config = CONFIG.model_copy(update={"init": str(path)})
    with pytest.raises(InputError, match=r"^committee\.big\.init: .*; committee\.big\.new_head=true"):
        initial_network(config, card, 0, key="committee.big")
    save_teacher(path, teacher(network="resnet20"))
    with pytest.raises(InputError, match=r"^--teacher: .* is no resnet20"):
        open_teacher(path, CPU)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.safetensors does not exist"):
        load(tmp_path / "nowhere.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "t.pth")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("t.pth", "empty"):
        with pytest.raises(InputError, match=rf"{name} is (no resnet8: tensor|no file of plain weights)"):
            load(tmp_path / name)


def test_a_foreign_teacher_on_real_images(test_data: Callable[[str], Path]) -> None:
    config = TeacherConfig(network="resnet20", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    data = open_dataset(test_data("cifar10.tar.xz"), "test")
    chosen = torch.arange(0, 10000, 50)
    loaded = load(test_data("teachers/cifar10jpeg_resnet20.safetensors"), config, data.classes, 3)
    images, labels = pixels(data, None, 3, chosen), data.labels[chosen]
    # 87.9 % of all 10,000: of 200 of them, five standard deviations below
    assert accuracy(loaded.network, loaded.normalize, images, labels) > 0.879 - 5 * (0.88 * 0.12 / 200) ** 0.5
