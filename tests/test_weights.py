"""The one reader of weights: every kind of file in which people have them, and what it refuses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import fastdd
from fastdd.config import Teacher as TeacherConfig
from fastdd.errors import InputError
from fastdd.evaluate import network_features
from fastdd.models.build import build
from fastdd.teachers import Card, Teacher, initial_network, load_teacher

CPU = torch.device("cpu")
CONFIG = TeacherConfig(network="resnet8", mean=(0.3,), std=(0.4,))
CLASSES = tuple("0123456789")
CARD = Card("resnet8", CLASSES, 1, (0.3,), (0.4,))
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return build("resnet8", 10, 1).state_dict()


def load(path: Path) -> Teacher:
    return load_teacher(path, CONFIG, CLASSES, 1, device=CPU)


def renamed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def uncounted(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}


EXTRAS = {
    "epoch": 90,
    "best": np.float64(0.9),
    "args": argparse.Namespace(lr=0.1),
    "optimizer": {"state": {}},
}
UNDER = "the weights are those under"
OFF = "of all names is taken off"
FORMS: dict[str, tuple[str, Callable[[State], object], tuple[str, ...]]] = {
    "plain": ("t.pth", lambda state: state, ()),
    "torchvision's": ("t.pth", uncounted, ("it has no num_batches_tracked, which are zero here",)),
    "ImageNet example": (
        "t.pth.tar",
        lambda state: {"state_dict": renamed(state, "module."), "best_acc1": torch.tensor(90.0), **EXTRAS},
        (f"{UNDER} 'state_dict'", f"the prefix 'module.' {OFF}"),
    ),
    "pytorch-cifar": (
        "t.th",
        lambda state: {"net": renamed(state, "module."), **EXTRAS},
        (f"{UNDER} 'net'", f"the prefix 'module.' {OFF}"),
    ),
    "compiled": (
        "t.pt",
        lambda state: {"model": renamed(state, "module._orig_mod.")},
        (f"{UNDER} 'model'", f"the prefix 'module.' {OFF}", f"the prefix '_orig_mod.' {OFF}"),
    ),
    "self-supervised": (
        "t.bin",
        lambda state: {"teacher": {"state_dict": renamed(uncounted(state), "module.backbone.")}},
        (
            f"{UNDER} 'teacher.state_dict'",
            f"the prefix 'module.' {OFF}",
            f"the prefix 'backbone.' {OFF}",
            "it has no num_batches_tracked, which are zero here",
        ),
    ),
    "half": ("t.pth", lambda state: {name: t.half() if t.ndim else t for name, t in state.items()}, ()),
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_every_form_are_the_same_teacher(tmp_path: Path, state: State, form: str) -> None:
    name, made, notes = FORMS[form]
    torch.save(made(state), tmp_path / name)
    loaded = load(tmp_path / name)
    assert loaded.notes == notes
    for key, tensor in loaded.network.state_dict().items():
        wanted = state[key].half().float() if form == "half" and tensor.ndim else state[key]
        assert torch.equal(tensor, wanted), key
    config = CONFIG.model_copy(update={"init": str(tmp_path / name)})
    network, said = initial_network(config, CARD, 0)
    assert torch.equal(network.linear.weight, loaded.network.linear.weight)
    assert said == [f"{name}: {note}" for note in notes]


def test_safetensors_have_prefixes_too_and_need_no_suffix(tmp_path: Path, state: State) -> None:
    for name in ("t.safetensors", "t.bin", "weights"):
        save_file(renamed(state, "model."), tmp_path / name)
        loaded = load(tmp_path / name)
        assert loaded.notes == (f"the prefix 'model.' {OFF}",)
        assert torch.equal(loaded.network.linear.weight, state["linear.weight"])


def test_a_prefix_that_the_network_has_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrapped_network.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, num_classes))\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    config = CONFIG.model_copy(update={"network": "wrapped_network:Net"})
    own = build(config.network, 10, 1).state_dict()
    torch.save(own, "t.pth")
    torch.save(renamed(own, "module."), "m.pth")
    for name, notes in (("t.pth", ()), ("m.pth", (f"the prefix 'module.' {OFF}",))):
        loaded = load_teacher(Path(name), config, CLASSES, 1, device=CPU)
        assert loaded.notes == notes
        assert loaded.network.state_dict().keys() == own.keys()


def test_features_take_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = build("resnet8", 7, 3).state_dict()
    torch.save({"state_dict": renamed(uncounted(state), "module."), **EXTRAS}, tmp_path / "t.pth.tar")
    extractor = network_features("resnet8", tmp_path / "t.pth.tar", CPU)
    assert torch.equal(extractor.network.network.linear.weight, state["linear.weight"])
    assert "t.pth.tar: the prefix 'module.' of all names is taken off" in capsys.readouterr().err


def test_a_run_says_what_it_made_of_the_file(
    tiny: Path, tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": state}, tmp_path / "t.pth")
    fastdd.run(tiny, tmp_path / "out", [f"teacher.weights={tmp_path / 't.pth'}"], until="squeeze")
    told = f"teacher.weights: {tmp_path / 't.pth'}: the weights are those under 'state_dict'\n"
    assert capsys.readouterr().err.count(told) == 1


class Trap:
    """Executes when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], r"holds a list, expected tensors by name"),
        ({"model": {}, "teacher": {}}, r"holds several networks, 'model' and 'teacher'; save one of them"),
        ({"linear.weight": 3}, r"holds 'linear.weight', a int, among the tensors"),
        ({3: torch.zeros(2)}, r"holds 3, a Tensor, among the tensors"),
        ({"a": torch.zeros(2).to_sparse()}, r"the tensor a has no plain values"),
        ({"a": torch.zeros(2, device="meta")}, r"the tensor a has no plain values"),
        (torch.nn.Linear(2, 2), r"no file of plain weights \(it names torch\.nn\.modules\.linear\.Linear\)"),
        ({"a": Trap()}, r"no file of plain weights \(it names print\)"),
        (b"", r"no file of plain weights \(it is damaged or torch\.save did not write it\)"),
        (b"x" * 99, r"no file of plain weights \(it is damaged or torch\.save did not write it\)"),
        (b"root:x:0", r"no file of plain weights \(it is damaged or torch\.save did not write it\)"),
        (b"PK\x03\x04half", r"no file of plain weights \(PytorchStreamReader failed"),
        (b"\x10\0\0\0\0\0\0\0{half", r"no whole safetensors file"),
    ],
)
def test_what_is_no_plain_weights_is_one_line(
    tmp_path: Path, content: object, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for read in (load, lambda path: network_features("resnet8", path, CPU)):
        with pytest.raises(InputError, match=expected) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert "executed\n" not in capfd.readouterr().out


def test_folders_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^teacher\.weights: .* is a folder; give a file of weights"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist; give a file of weights"):
        load(tmp_path / "nowhere.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(InputError, match=r"loop\.pth cannot be read \(Too many levels of symbolic links\)"):
        load(tmp_path / "loop.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, state: State, value: float) -> None:
    bad = {**state, "linear.bias": torch.full((10,), value, dtype=torch.float64)}
    torch.save(bad, tmp_path / "t.pth")
    with pytest.raises(InputError, match=r"the tensor linear\.bias holds NaN or infinite values"):
        load(tmp_path / "t.pth")


def test_weights_of_integers_are_refused(tmp_path: Path, state: State) -> None:
    save_file({**state, "linear.weight": state["linear.weight"].int()}, tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=r"linear\.weight is int32, expected float32; save the weights as"):
        load(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"accuracy": 91.5}, r"accuracy: Input should be less than or equal to 1, got 91\.5\)"),
        ({"accuracy": -0.1}, r"accuracy: Input should be greater than or equal to 0"),
        ({"accuracy": float("nan")}, r"accuracy: "),
        ({"channels": 2}, r"2 channels with 1 means and 1 stds, expected 1 or 3 of each"),
        ({"mean": [0.1, 0.2, 0.3]}, r"1 channels with 3 means"),
        ({"std": [0.0]}, r"std: 0: Input should be greater than 0"),
        ({"mean": [float("inf")]}, r"mean: 0: Input should be a finite number"),
        ({"size": [0, 8]}, r"size: 0: Input should be greater than 0"),
        ({"classes": []}, r"classes: .* at least 1 item"),
        ({"classes": None}, r"classes: Input should be a valid"),
    ],
)
def test_a_card_with_impossible_values_is_refused(
    tmp_path: Path, state: State, change: dict[str, object], expected: str
) -> None:
    card = {"network": "resnet8", "classes": list(CLASSES), "channels": 1, "mean": [0.3], "std": [0.4]}
    save_file(state, tmp_path / "t.safetensors", {"fastdd": json.dumps(card | change)})
    with pytest.raises(InputError, match=rf"the card in .*{expected}"):
        load(tmp_path / "t.safetensors")
