"""Doors to networks that fastdd does not define: timm's, torchvision's, and the user's own.

    timm:NAME                 a model of timm, without pretrained weights
    torchvision:NAME          a classification model of torchvision; NAME alone means the same
    package.module:function   a function or class of the user's (see import_function)
    object:ROLE.NAME          a module or builder that was given to ``fastdd.run`` in this process

Nothing is downloaded or unpickled. A function is imported and called only where the user names it, never
because a teacher's card or a finished run's recipe does (see check_recorded_network).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from torch import nn

from ..errors import InputError, suggestion
from ..runtime.user_code import reason
from .registry import NETWORKS, Builder

_GIVEN: dict[str, Builder] = {}
"""Builders of the objects that were given to fastdd.run, by name."""


def timm_builder(name: str) -> Builder:
    """The builder of a timm model.

    Raises:
        InputError: timm is not installed, has no such model, or the name ends in a tag of pretrained weights.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"timm:{name} needs timm ({error}); install it with `pip install 'fastdd[timm]'`"
        ) from error
    base, dot, weights = name.partition(".")
    if dot and timm.is_model(base):
        raise InputError(
            f"timm:{name} names pretrained weights ({weights}), expected a network; use timm:{base}, and "
            f"for a teacher teacher.weights=timm:{name}"
        )
    if not timm.is_model(name):  # names of models on a hub, which would be downloaded, are not among them
        raise InputError(f"timm has no model {name!r}{suggestion(name, timm.list_models())}")

    def build(num_classes: int, channels: int) -> nn.Module:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)

    return build


def torchvision_builder(name: str) -> Builder:
    """The builder of a torchvision model."""
    from .torchvision_models import TORCHVISION

    if name not in TORCHVISION:
        raise InputError(f"torchvision has no classification model {name!r}{suggestion(name, TORCHVISION)}")
    return NETWORKS[name].builder


def require_package(name: str) -> None:
    """Refuse ``package.module:function`` whose package is neither installed nor in the current folder.

    Nothing is imported.
    """
    package = name.partition(":")[0].partition(".")[0]
    here = Path(package).is_dir() or Path(f"{package}.py").is_file()
    if here or package in sys.modules or (package.isidentifier() and find_spec(package) is not None):
        return
    near = suggestion(package, ("timm", "torchvision"))
    raise InputError(
        f"there is no package {package!r} for {name}{near}; packages are looked for in {Path.cwd()} and "
        "among the installed ones"
    )


def check_recorded_network(network: str, where: str, option: str) -> None:
    """Refuse the network that a file names, where building it would call code that the user did not name.

    Args:
        option: option of the command by which the user names the network, for the message.
    """
    door, colon, _ = network.partition(":")
    if not colon or door in ("timm", "torchvision"):
        return
    if door == "object":
        raise InputError(
            f"{where} names {network}, an object that was given to fastdd.run, which cannot be built from "
            f"its name; name a function that builds it: {option} package.module:function"
        )
    raise InputError(
        f"{where} names the function {network}, and a function is called only where you name it yourself; if "
        f"you trust it, add {option} {network}"
    )


def give_object(role: Literal["teacher", "student"], thing: object) -> str:
    """Make a module or builder known to this process.

    Args:
        role: a teacher is a module that brings its weights. A student is a builder, or a module that is
            copied and initialized anew for each seed.

    Returns:
        Its name for recipes.

    Raises:
        InputError: a teacher that is no module, or a student that is neither a module nor a builder.
    """
    builder: Builder
    if isinstance(thing, nn.Module):
        copied = _copied if role == "teacher" else _initialized_anew
        builder = partial(copied, role, thing)
    elif role == "student" and callable(thing):
        builder = thing
    else:
        expected = "an nn.Module" if role == "teacher" else "an nn.Module or a function that returns one"
        raise InputError(f"{role} is {thing!r:.60}, expected {expected}")
    label = getattr(thing, "__name__", type(thing).__name__).strip("<>")
    name = f"object:{role}.{label}"
    _GIVEN[name] = builder
    return name


def brings_weights(name: str) -> bool:
    """Whether a network is an object that was given to ``fastdd.run`` as a trained teacher."""
    return name.startswith("object:teacher.")


def _given_builder(name: str) -> Builder:
    full = f"object:{name}"
    if full not in _GIVEN:
        raise InputError(
            f"{full} was given to fastdd.run as an object by another process; give it again, as "
            f"fastdd.run(..., {name.partition('.')[0]}=...), or name a function that every process can call: "
            "package.module:function"
        )
    return _GIVEN[full]


def _copied(role: str, module: nn.Module) -> nn.Module:
    """A copy of a given module, on the CPU."""
    try:
        return copy.deepcopy(module).cpu()
    except Exception as error:  # such as a tensor that is no leaf
        remedy = {
            "teacher": "name a function that builds it in teacher.network and its weights in teacher.weights",
            "student": "give a function that builds it, as student=function",
        }
        raise InputError(
            f"the {role} {type(module).__name__} cannot be copied ({reason(error)}); {remedy[role]}"
        ) from error


def _initialized_anew(role: str, module: nn.Module) -> nn.Module:
    """A copy of a given module with new random weights, drawn by its modules' own ``reset_parameters``."""
    network = _copied(role, module)
    for path, part in reversed(list(network.named_modules())):  # parts first, as in constructors
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(part.parameters(recurse=False), None) is not None:
            raise InputError(
                f"the {role} cannot be initialized anew for each seed: {path or 'it'} ({type(part).__name__})"
                " has parameters and no reset_parameters; give a function that builds it, as student=function"
            )
    return network


DOORS: dict[str, Callable[[str], Builder]] = {
    "timm": timm_builder,
    "torchvision": torchvision_builder,
    "object": _given_builder,
}
