"""Networks by name: the registry, timm's, torchvision's, the user's own, and what is refused at once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch
from torch import Tensor, nn

import fastdd
from fastdd.errors import InputError
from fastdd.models import doors
from fastdd.models.build import OUTLINED, as_input, build, memory_format, structure, to_device
from fastdd.models.doors import give_object
from fastdd.models.outline import outline
from fastdd.models.registry import NETWORKS, Network, student
from fastdd.models.shufflenet import ShuffleBlock
from fastdd.models.wide_resnet import WideBlock
from fastdd.teachers.embedding import require_embedding

KEY = "student.network"
DIGITS = (1, 8, 8)


class Net(nn.Module):
    """A small network with a BatchNorm, for images of 8 x 8."""

    def __init__(self, num_classes: int = 10, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, gives and imports is forgotten after it."""
    assert len(NETWORKS)
    monkeypatch.setattr(NETWORKS, "_things", dict(NETWORKS._things))
    monkeypatch.setattr(doors, "_GIVEN", {})
    OUTLINED.clear()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    sys.modules.pop("my_nets", None)


@pytest.fixture
def my_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's in the current directory."""
    source = """\
from torch import nn

TABLE = {}

def linear(num_classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, num_classes))

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def deep(depth, num_classes):
    return nn.Identity()

def no_module(num_classes):
    return [num_classes]

def broken():
    raise KeyError("no such layer")

def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

net = fixed()
"""
    (tmp_path / "my_nets.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- networks of the committees ---------------------------------------------------------------------

COUNTS = {  # parameters with 10 classes, or 100, as in the code that trains them
    ("convnet3", 10): 320_010,
    ("convnet3_w32", 10): 24_714,
    ("convnet1_32", 10): 331_530,
    ("convnet2_32", 10): 233_610,
    ("convnet3_64", 10): 381_450,
    ("wrn_16_2", 100): 703_284,
    ("mobilenet_v2_half", 100): 812_836,
    ("shufflenet_g2", 10): 887_582,
    ("densenet121_small", 10): 6_956_298,
    ("shufflenet_v2_x0_5_small", 10): 352_042,
}
NAMES = {  # of a tensor in released checkpoints
    "wrn_16_2": "block2.layer.0.convShortcut.weight",
    "mobilenet_v2_half": "blocks.1.0.conv.3.weight",
    "shufflenet_g2": "layer1.0.conv1.weight",
    "convnet3_w32": "features.8.weight",
}


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_networks_of_committees_have_as_many_parameters_as_published(name: str, classes: int) -> None:
    sides = [int(name.rsplit("_", 1)[-1])] if name.endswith(("_32", "_64")) else [32, 64]
    if name in ("convnet3", "convnet3_w32"):
        sides = [32]
    for side in sides:  # the images go through in both modes
        network = outline(KEY, name, classes, (3, side, side))
        assert sum(each.numel() for each in network.parameters()) == COUNTS[name, classes]
        require_embedding(KEY, name, network, (3, side, side))
    assert NAMES.get(name, next(iter(network.state_dict()))) in network.state_dict()


def test_shuffled_channels_and_shortcuts() -> None:
    torch.manual_seed(0)
    block = ShuffleBlock(200, 200, halves=False).eval()
    seen: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    images = torch.rand(2, 200, 4, 4)
    block(images)
    before = block.bn1(block.conv1(images)).relu()
    assert torch.equal(seen[0][:, 0::2], before[:, :25])  # the groups alternate
    assert torch.equal(seen[0][:, 1::2], before[:, 25:])
    assert ShuffleBlock(24, 176, halves=True)(torch.rand(2, 24, 8, 8)).shape == (2, 200, 4, 4)
    wide = WideBlock(16, 32, 2).eval()
    torch.nn.init.zeros_(wide.conv2.weight)
    given = torch.randn(2, 16, 8, 8)
    assert wide.convShortcut is not None
    assert torch.equal(wide(given), wide.convShortcut(wide.bn1(given).relu()))  # of the activated input


# -- the registry ---------------------------------------------------------------------------------


def test_a_registered_network_is_known_by_its_name() -> None:
    fastdd.register_network("mine", Net)
    assert isinstance(build("mine", 7, 3), Net)
    assert outline(KEY, "mine", 7, (3, 8, 8)).head.weight.shape == (7, 8)
    with pytest.raises(InputError, match=r"there is a network 'mine' already"):
        fastdd.register_network("mine", Net)
    with pytest.raises(InputError, match=r"there is a network 'resnet18' already"):
        fastdd.register_network("resnet18", Net)
    with pytest.raises(InputError, match=r"'bad' needs an argument 'depth'.*give 'depth' a default"):
        fastdd.register_network("bad", lambda depth, num_classes: Net(num_classes))
    with pytest.raises(InputError, match=r"'bad' is a Net, expected a function"):
        fastdd.register_network("bad", Net())


def test_a_network_says_which_images_its_paper_name_is_for() -> None:
    NETWORKS.register("net_small", Network(Net, paper_name="net", sides=range(1, 65)))
    assert [student("net", side) for side in (8, 64, 65)] == ["net_small", "net_small", "net"]
    assert [student("convnet", side) for side in (8, 32, 33)] == ["convnet1", "convnet3", "convnet"]
    assert [student("vit", side) for side in (32, 48, 64)] == ["vit_small32", "vit_b_16", "vit_small64"]


def test_networks_know_nothing_of_teachers_students_or_data() -> None:
    program = (
        "import sys, fastdd.models.build as b; b.build('resnet8', 10)\n"
        "above = ('teachers', 'evaluate', 'data', 'config', 'runs')\n"
        "assert not [m for m in sys.modules if m.startswith(tuple(f'fastdd.{a}' for a in above))]\n"
    )
    forked.output("-c", program)


# -- doors ----------------------------------------------------------------------------------------


def test_torchvision_by_its_prefix() -> None:
    torch.manual_seed(0)
    one = build("torchvision:resnet18", 7)
    torch.manual_seed(0)
    two = build("resnet18", 7)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(InputError, match=r"torchvision has no .*'resnet81' \(did you mean 'resnet18'\?\)"):
        outline(KEY, "torchvision:resnet81", 10, (3, 32, 32))
    with pytest.raises(InputError, match=r"torchvision has no classification model 'resnet20'"):
        build("torchvision:resnet20", 10)


def test_timm_by_its_prefix() -> None:
    pytest.importorskip("timm")
    network = outline(KEY, "timm:resnet18", 7, (1, 32, 32))
    assert network.get_submodule("conv1").weight.shape == (64, 1, 7, 7)
    assert network.get_submodule("fc").weight.shape == (7, 512)
    with pytest.raises(InputError, match=r"^student\.network: timm has no model 'resnet81' \(did you mean"):
        outline(KEY, "timm:resnet81", 10, (3, 32, 32))
    with pytest.raises(InputError, match=r"names pretrained weights \(a1_in1k\).*use timm:resnet18, "):
        build("timm:resnet18.a1_in1k", 10)
    with pytest.raises(InputError, match=r"timm has no model 'hf-hub:timm/resnet18"):  # nothing is downloaded
        build("timm:hf-hub:timm/resnet18.a1_in1k", 10)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm:resnet18 needs timm .*pip install 'fastdd\[timm\]'"):
        build("timm:resnet18", 10)


def test_a_function_of_the_current_directory(my_nets: Path) -> None:
    assert build("my_nets:linear", 7, 3)(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    assert outline("teacher.network", "my_nets:fixed", 10, DIGITS)[1].in_features == 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_netz:linear", r"there is no package 'my_netz' for my_netz:linear; packages are looked for in /"),
        ("my_nets:liner", r"my_nets \(.*my_nets\.py\) has no function 'liner' \(did you mean 'linear'\?\)"),
        ("my_nets:TABLE", r"my_nets \(.*\) has no function 'TABLE'"),
        ("my_nets:deep", r"my_nets:deep needs an argument 'depth'"),
        ("my_nets:net", r"my_nets:net is a Sequential, expected a function that returns an nn\.Module"),
        ("my_nets:no_module", r"my_nets:no_module returned a list, expected an nn\.Module"),
        ("my_nets:broken", r"my_nets:broken cannot be built for 10 classes and 1 channel \(KeyError: "),
        ("my_nets:lazy", r"my_nets:lazy has a parameter '1\.weight' that gets its shape from"),
        ("my_nets:", r"my_nets \(.*\) has no function ''"),
        (":linear", r":linear cannot be imported \(ValueError: Empty module name\)"),
        ("linear", r"unknown network 'linear'.*package\.module:function"),
    ],
)
def test_a_function_that_builds_no_network(my_nets: Path, name: str, expected: str) -> None:
    with pytest.raises(InputError, match=rf"^committee\.big\.network: {expected}"):
        outline("committee.big.network", name, 10, DIGITS)


def test_the_current_directory_is_searched_first(my_nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (my_nets / "elsewhere").mkdir()
    (my_nets / "elsewhere" / "my_nets.py").write_text("raise RuntimeError('the wrong one')\n")
    monkeypatch.setattr(sys, "path", [str(my_nets / "elsewhere"), *sys.path, str(my_nets)])
    assert isinstance(build("my_nets:linear", 7, 1), nn.Sequential)


def test_a_module_that_exits_or_complains_at_length(my_nets: Path) -> None:
    (my_nets / "my_nets.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match=r"my_nets:linear cannot be imported \(SystemExit: 3\)"):
        build("my_nets:linear", 10)
    (my_nets / "my_nets.py").write_text("raise RuntimeError('first\\nsecond')\n# of another length\n")
    with pytest.raises(InputError, match=r"cannot be imported \(RuntimeError: first\);"):
        build("my_nets:linear", 10)


def test_a_module_that_does_not_import_says_why(my_nets: Path) -> None:
    (my_nets / "my_nets.py").write_text("import nonsense_of_mine\n")
    with pytest.raises(InputError, match=r"my_nets:linear cannot be imported .*nonsense_of_mine"):
        build("my_nets:linear", 10)


# -- objects --------------------------------------------------------------------------------------


def test_a_given_teacher_keeps_its_weights_and_a_given_student_does_not() -> None:
    module = Net().train()
    module.features[1].running_mean.fill_(3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    teacher, learner = (build(give_object(role, module), 10, 1) for role in ("teacher", "student"))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not torch.equal(learner.head.weight, module.head.weight)
    assert not learner.features[1].running_mean.any()
    torch.manual_seed(5)
    one = build("object:student.Net", 10, 1)
    torch.manual_seed(5)
    assert torch.equal(one.head.weight, build("object:student.Net", 10, 1).head.weight)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training


def test_a_given_builder_is_called_for_each_student() -> None:
    name = give_object("student", lambda num_classes: Net(num_classes, width=4))
    assert name == "object:student.lambda"
    assert build(name, 7).head.weight.shape == (7, 4)


class Scale(nn.Module):
    """A parameter of its own, and no way to initialize it anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_a_student_that_cannot_be_initialized_anew() -> None:
    name = give_object("student", nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Scale()))
    with pytest.raises(
        InputError, match=r"^student\.network: .*: 2 \(Scale\) has parameters and no reset_par"
    ):
        outline(KEY, name, 10, DIGITS)


def test_an_object_that_cannot_be_copied() -> None:
    module = Net()
    module.mask = module.head.weight * 2  # no leaf
    for role, remedy in (("teacher", r"teacher\.weights"), ("student", "student=function")):
        with pytest.raises(InputError, match=rf"the {role} Net cannot be copied .*{remedy}"):
            build(give_object(role, module), 10)


def test_objects_of_other_kinds_and_of_other_processes() -> None:
    with pytest.raises(InputError, match=r"teacher is <function.*expected an nn\.Module"):
        give_object("teacher", build)
    with pytest.raises(
        InputError, match=r"student is 3, expected an nn\.Module or a function that returns one"
    ):
        give_object("student", 3)
    with pytest.raises(
        InputError, match=r"object:teacher\.Net was given to fastdd\.run as an object by another"
    ):
        outline("teacher.network", "object:teacher.Net", 10, DIGITS)


# -- what a run could not use ---------------------------------------------------------------------


class Returns(Net):
    """A network that returns whatever a function makes of its logits."""

    def __init__(self, change: object) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(super().forward(x), self)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda y, net: (y, y), r"returns a tuple in eval mode, expected its logits alone"),
        (lambda y, net: (y, y) if net.training else y, r"returns a tuple in training mode"),
        (lambda y, net: y[:, :3], r"returns float32 \[2, 3\] for 2 images in eval mode, .* float \[2, 10\]"),
        (lambda y, net: y[:1], r"returns float32 \[1, 10\] for 2 images"),
        (lambda y, net: y.argmax(1), r"returns int64 \[2\] for 2 images"),
        (lambda y, net: y @ y, r"cannot take images of 1 x 8 x 8 \(RuntimeError: .*choose another network$"),
        (lambda y, net: y.logits, r"cannot take images of 1 x 8 x 8 \(AttributeError: .*'logits'"),
    ],
)
def test_what_is_no_logits(change: object, expected: str) -> None:
    name = give_object("student", lambda: Returns(change))
    with pytest.raises(InputError, match=rf"^student\.network: object:student\.lambda {expected}"):
        outline(KEY, name, 10, DIGITS)


def test_a_given_teacher_is_not_tried_in_training_mode() -> None:
    name = give_object("teacher", Returns(lambda y, net: (y, y) if net.training else y))
    assert outline("teacher.network", name, 10, DIGITS, trains=False).head.weight.is_meta


def test_a_frozen_network_cannot_be_trained() -> None:
    name = give_object("student", lambda: Net().requires_grad_(False))
    with pytest.raises(InputError, match=r"cannot be trained: none of its parameters requires a gradient"):
        outline(KEY, name, 10, DIGITS)


def test_code_that_needs_values_takes_a_real_pass_and_draws_nothing() -> None:
    name = give_object("student", lambda: Returns(lambda y, net: y + 1 if y.sum() > 0 else y))
    torch.manual_seed(3)
    network = outline(KEY, name, 10, DIGITS)
    drawn = torch.rand(1)
    assert not any(value.is_meta for value in network.state_dict().values())
    assert not network.training
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_a_function_that_returns_one_module_again() -> None:
    one, body = Net(), Net().features
    for function, shared in (
        (lambda: one, r"features\.0"),
        (lambda: nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), r"0\.0"),
    ):
        name = give_object("student", function)
        with pytest.raises(InputError, match=rf"^student\.network: .* returned the module {shared} again"):
            outline(KEY, name, 10, DIGITS)
    assert not one.head.weight.is_meta


def test_a_registered_network_takes_images_of_a_size_once_a_process() -> None:
    taken: list[tuple[bool, int]] = []

    class Counting(Net):
        def forward(self, x: Tensor) -> Tensor:
            taken.append((self.training, x.shape[-1]))
            return super().forward(x)

    fastdd.register_network("counting", Counting)
    for trains in (False, True, True, False):
        assert not outline(KEY, "counting", 10, DIGITS, trains=trains).training
    assert taken == [(False, 8), (True, 8)]
    outline(KEY, "counting", 10, (1, 9, 9))
    assert taken[2:] == [(False, 9), (True, 9)]


def test_a_function_may_pass_on_what_build_returned() -> None:
    outline(
        KEY,
        give_object("student", lambda num_classes, channels: build("resnet8", num_classes, channels)),
        10,
        DIGITS,
    )


def test_a_function_that_returns_other_networks_at_later_calls() -> None:
    widths = itertools.count(4)
    name = give_object("student", lambda: Net(width=next(widths)))
    with pytest.raises(InputError, match=r"^student\.network: .* other layers or sizes than at its first"):
        outline(KEY, name, 10, DIGITS)
    calls: list[int] = []
    name = give_object("student", lambda: Net(width=4 if calls.append(1) or len(calls) < 3 else 5))  # type: ignore[func-returns-value]
    outline(KEY, name, 10, DIGITS)
    with pytest.raises(InputError, match=r"other layers or sizes than at its first call"):
        build(name, 10, 1)


def test_a_function_that_returns_a_network_without_values() -> None:
    def weightless() -> nn.Module:
        with torch.device("meta"):
            return Net()

    with pytest.raises(InputError, match=r"'features\.0\.weight' on the meta device.*build it on the CPU"):
        outline(KEY, give_object("student", weightless), 10, DIGITS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_dtypes(dtype: torch.dtype) -> None:
    for student_given in (Net().to(dtype), lambda: Net().to(dtype)):
        with pytest.raises(InputError, match=r"expected float32; convert it with \.float\(\)$"):
            outline(KEY, give_object("student", student_given), 10, DIGITS)


def test_structures_of_networks() -> None:
    assert structure(Net()) == structure(Net())
    assert len({structure(net) for net in (Net(), Net(width=4), Net(7), nn.Sequential(Net()))}) == 4


# -- embeddings of teachers -----------------------------------------------------------------------


class HeadFirst(nn.Module):
    """The layer that gives the logits is defined before the others."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.head, self.called = nn.Linear(64, 10), called
        self.body = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.body(x) if self.called else x).flatten(1))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), r"net has no nn\.Linear, so it has no embedding"),
        (HeadFirst(True), r"the last nn\.Linear of net \(body\) takes \[2, 1, 8, 8\] of 2 images"),
        (HeadFirst(False), r"the last nn\.Linear of net \(body\) is not called"),
    ],
)
def test_a_teacher_without_an_embedding(network: nn.Module, expected: str) -> None:
    with pytest.raises(InputError, match=rf"^teacher\.network: {expected}"):
        require_embedding("teacher.network", "net", network.to("meta"), DIGITS)


@pytest.mark.parametrize("name", ["resnet8", "convnet1", "timm:resnet18", "my_own"])
def test_a_teacher_with_an_embedding(name: str) -> None:
    NETWORKS.register("my_own", Net)
    if name.startswith("timm"):
        pytest.importorskip("timm")
    require_embedding("teacher.network", name, outline("teacher.network", name, 10, DIGITS), DIGITS)


# -- memory format --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "layout"),
    [
        ("convnet3", torch.contiguous_format),
        ("convnet3_bn", torch.channels_last),
        ("resnet20", torch.channels_last),
    ],
)
def test_networks_with_group_norm_are_contiguous_on_a_cpu(network: str, layout: torch.memory_format) -> None:
    built = to_device(build(network, 10), torch.device("cpu"))
    assert memory_format(built, torch.device("cpu")) == layout
    assert memory_format(built, torch.device("cuda")) == torch.channels_last
    weight = max(built.parameters(), key=torch.numel)
    assert weight.is_contiguous(memory_format=layout)
    for given in (torch.contiguous_format, torch.channels_last):
        images = torch.rand(2, 3, 32, 32).contiguous(memory_format=given)
        assert as_input(images, built).is_contiguous(memory_format=layout)
        assert torch.equal(as_input(images, built), images)


def test_a_convnet_has_the_same_logits_in_both_memory_formats() -> None:
    torch.manual_seed(0)
    network, images = build("convnet3", 10).eval(), torch.randn(4, 3, 32, 32)
    plain = network(images)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-5)
