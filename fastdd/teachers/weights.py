"""The one reader of networks' weights, whoever wrote the file.

A file is safetensors, or what ``torch.save`` wrote (.pth, .pt, .th, .bin, .pth.tar), which is read without
executing anything. Its tensors may lie under a key such as ``state_dict``, and their names may all begin with
what a wrapper put there, such as ``module.``; what is taken off is said.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..models.build import auxiliary_tensors, build
from ..models.registry import NETWORKS
from ..models.torchvision_models import RESNETS, TORCHVISION
from ..runtime.torch_files import TorchFileError, load_torch
from .card import Card, read_card

WRAPPING = ("state_dict", "model_state_dict", "model", "net", "network", "teacher")
"""keys under which training scripts save the state of a network"""
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.")
"""what DistributedDataParallel, a wrapper, torch.compile and a feature extractor put before every name"""
COUNTER = "num_batches_tracked"
"""last part of the name of BatchNorm's counter, which old files lack and eval mode ignores"""


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        state: the tensors by name, on the CPU.
        card: what the file says of its network; None: it says nothing.
        notes: what was taken off or added, in words.
    """

    state: dict[str, Tensor]
    card: Card | None = None
    notes: tuple[str, ...] = ()

    def fitted(self, network: str, wanted: Mapping[str, Tensor]) -> Weights:
        """The same tensors under the names that a network has for them.

        Prefixes that all names have are taken off, tensors of auxiliary classifiers are left out, and
        BatchNorm's counters are zero where the file has none. What is wrong after that, ``check_state`` says.
        """
        state, notes = self.state, list(self.notes)
        while prefix := _prefix(state, wanted):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            notes.append(f"the prefix {prefix!r} of all names is taken off")
        auxiliary = auxiliary_tensors(network)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(auxiliary)}
        counters = [name for name in wanted if name.rpartition(".")[2] == COUNTER]
        if counters and not any(name in state for name in counters):
            state |= {name: torch.zeros_like(wanted[name], device="cpu") for name in counters}
            notes.append(f"it has no {COUNTER}, which are zero here")
        return replace(self, state=state, notes=tuple(notes))


def _prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """A prefix that all names of a file have and not all names of the network; empty: none."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return "" if all(name.startswith(prefix) for name in wanted) else prefix
    return ""


def tell(key: str, path: str | Path, notes: Sequence[str]) -> None:
    """Tell the user what was made of a file of weights."""
    for note in notes:
        print(f"{key}: {path}: {note}", file=sys.stderr)


def read_weights(key: str, path: Path) -> Weights:
    """The tensors of a file by name, and its card where it has one.

    Args:
        path: a file of safetensors, or one that torch.save wrote.
        key: the recipe's key or the option that names the file, for messages.

    Raises:
        InputError: the file is absent, cannot be read, holds other things than one network's tensors, has a
            damaged card, or a tensor holds NaN or infinite values.
    """
    if path.is_dir():
        raise InputError(f"{key}: {path} is a folder; give a file of weights")
    try:
        with open(path, "rb") as file:
            head = file.read(9)
        # Eight bytes with the length of the header, then the header, which is JSON.
        weights = (_read_safetensors if head[8:] == b"{" else _read_torch)(key, path)
    except FileNotFoundError as error:
        raise InputError(f"{key}: {path} does not exist; give a file of weights") from error
    except OSError as error:
        raise InputError(f"{key}: {path} cannot be read ({error.strerror or error})") from error
    for name, tensor in weights.state.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise InputError(
                f"{key}: {path}: the tensor {name} holds NaN or infinite values; give weights of a training "
                "that did not diverge"
            )
    return weights


def _read_safetensors(key: str, path: Path) -> Weights:
    try:
        with safe_open(str(path), framework="pt") as file:
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{key}: {path} is no whole safetensors file ({error}); copy it again") from error
    return Weights(state, read_card(key, path, metadata))


def _read_torch(key: str, path: Path) -> Weights:
    remedy = "save its network.state_dict() with safetensors or torch.save"
    try:
        content, under = load_torch(path), list[str]()
    except TorchFileError as error:
        raise InputError(f"{key}: {path} is no file of plain weights ({error}); {remedy}") from error
    while isinstance(content, Mapping):
        found = [name for name in WRAPPING if isinstance(content.get(name), Mapping)]
        if len(found) > 1:
            raise InputError(
                f"{key}: {path} holds several networks, {' and '.join(map(repr, found))}; save one of them"
            )
        if not found:
            break
        under.append(found[0])
        content = content[found[0]]
    if not isinstance(content, Mapping):
        raise InputError(
            f"{key}: {path} holds a {type(content).__name__}, expected tensors by name; {remedy}"
        )
    for name, tensor in content.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            kind = type(tensor).__name__
            raise InputError(f"{key}: {path} holds {name!r}, a {kind}, among the tensors; {remedy}")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise InputError(f"{key}: {path}: the tensor {name} has no plain values; {remedy}")
    notes = (f"the weights are those under {'.'.join(under)!r}",) if under else ()
    return Weights({name: tensor.detach() for name, tensor in content.items()}, notes=notes)


def check_state(
    key: str, path: Path, network: str, *, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> None:
    """Compare the tensors that a network wants with those of a file.

    Raises:
        InputError: a tensor is missing, unknown, of another shape or of no float dtype; the first one is
            named.
    """
    if missing := sorted(wanted.keys() - given.keys()):
        raise InputError(
            f"{key}: {path} is no {network}: tensor {missing[0]!r} is missing ({len(missing)} in all)"
            f"{_other_network(key, given)}"
        )
    if extra := sorted(given.keys() - wanted.keys()):
        raise InputError(
            f"{key}: {path} is no {network}: it holds an unknown tensor {extra[0]!r} ({len(extra)} in all)"
            f"{_other_network(key, given)}"
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            last = list(wanted)[-1].rpartition(".")[0]
            hint = "; the number of classes differs from the data's" if name.startswith(last) else ""
            raise InputError(
                f"{key}: {path} does not fit {network}: {name} is {list(given[name].shape)}, "
                f"expected {list(tensor.shape)}{hint}"
            )
        if given[name].is_floating_point() != tensor.is_floating_point() or given[name].is_complex():
            theirs, ours = (str(each.dtype).removeprefix("torch.") for each in (given[name], tensor))
            raise InputError(
                f"{key}: {path} does not fit {network}: {name} is {theirs}, expected {ours}; save the "
                "weights as float numbers"
            )


def _other_network(key: str, given: Mapping[str, Tensor]) -> str:
    """The override that names the network of which a file's tensors are; empty where none is known.

    The networks that fastdd defines and torchvision's ResNets are tried.
    """
    section, shapes = key.rpartition(".")[0], _shapes(given)
    sizes = {tensor.shape[0] for tensor in given.values() if tensor.ndim == 2}
    names = [name for name in NETWORKS if name not in TORCHVISION or name in RESNETS]
    for name, classes, channels in product(names if section else (), sizes, (3, 1)):
        try:
            with torch.device("meta"):
                network = build(name, classes, channels)
        except InputError:
            continue
        if _shapes(network.state_dict()) == shapes:
            return (
                f"; its tensors are those of {name}: to use it add {section}.network={name}, and "
                f"{section}.mean and {section}.std as it was trained with"
            )
    return ""


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of a state's tensors by name, but for BatchNorm's counters, which old files lack."""
    return {name: tensor.shape for name, tensor in state.items() if name.rpartition(".")[2] != COUNTER}
