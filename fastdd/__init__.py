"""fastdd: fast large-scale dataset distillation.

    import fastdd
    result = fastdd.run("digits", out="runs/digits")

The losses and statistics alone are in ``fastdd_kernels``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import InputError, refusals_explained
from .runtime.events import Event
from .runtime.threads import wait_briefly
from .version import __version__

wait_briefly()  # torch may be imported from here on

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .config import Recipe
    from .data.sources.base import DatasetFunction, Layout
    from .evaluate.loaded_set import LoadedSet
    from .methods import Declaration, Patch
    from .recover import Term
    from .runs.pipeline import RunResult

__all__ = [
    "Event",
    "__version__",
    "load",
    "losses",
    "metrics",
    "plots",
    "register_method",
    "register_network",
    "register_protocol",
    "register_source",
    "register_term",
    "resolve",
    "run",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("losses", "metrics", "plots"):  # they import torch, so only when they are asked for
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def resolve(
    recipe: str,
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    arms: Sequence[str] = (),
    students: Sequence[str] = (),
) -> Recipe:
    """A validated recipe from a built-in name or a YAML file, with ``key=value`` overrides.

    Args:
        recipe, overrides, add, arms, students: as for ``run``.

    Raises:
        fastdd.errors.InputError: an unknown name, key or method, or a value of the wrong type or out of
        range.
    """
    from .recipes.resolve import resolve as resolve_all

    return resolve_all(recipe, overrides, add, arms, students).recipe


@refusals_explained()
def run(
    recipe: str | Path | Recipe,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    *,
    arms: Sequence[str] = (),
    students: Sequence[str] = (),
    fresh: bool = False,
    until: str = "report",
    part: range | None = None,
    download: bool = False,
    data: tuple[object, object] | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | Callable[..., nn.Module] | None = None,
    on_event: Callable[[Event], None] | None = None,
    outlook: bool = False,
) -> RunResult:
    """Distil a data set, train students on the result and report; or continue a run that was interrupted.

    All input is checked before anything is written or deleted.

    Args:
        recipe: a built-in name, a YAML file or a Recipe.
        out: the run folder; None: ``runs/NAME`` with the recipe's name. A folder that holds a run of the same
            recipe is continued.
        overrides: ``key=value`` texts; with a recipe by name or file only.
        add: additions for every method, such as ``["dire"]``; with a recipe by name or file only.
        arms: names of the recipe's arms that are kept; empty: all; with a recipe by name or file only.
        students: names of the recipe's further students that are kept; empty: all; likewise.
        fresh: delete an earlier run in that folder first.
        until: the last stage to do: squeeze, bank, experts, recover, label, evaluate or
            report. label stores soft labels even where no students read them.
        part: the classes to do with ``until="bank"``, or the units with ``until="recover"``, when many jobs
            share a run folder; None: all.
        download: download what the cache lacks: weights of teachers that torchvision or timm released, and
            data sets ``hf:ORG/NAME`` of the hub.
        data: training and test set instead of ``data.root``: map-style torch Datasets of (image, label),
            without random transforms (see ``fastdd.data.sources.torch_dataset``). A run that is continued is
            given the same again.
        teacher: a trained module that returns logits [N, num_classes] of images normalized by
            ``teacher.mean`` and ``teacher.std``; its weights are kept in the run folder. None:
            ``teacher.network``.
        student: a function that builds a network, and is called with ``num_classes`` and ``channels`` where
            its signature takes them; or a module, which is copied and initialized anew for each seed. None:
            ``student.network``. A run that is continued is given the same objects again.
        on_event: is called with each event, such as losses and accuracies, as they come (see
            ``fastdd.Event``), in the main process; an error that it raises ends the run. None: nothing is.
        outlook: whether a run that begins first says on stderr what it is likely to take, after trying a step
            of each stage for about a second.

    Returns:
        The run: ``path``, ``manifest``, and after ``evaluate`` ``metrics``, such as
            ``metrics.arms["deda"].last``.

    Raises:
        fastdd.errors.InputError: bad input, or work that failed; one message says what, and what to do.
    """
    from .config import Recipe
    from .recipes.resolve import resolve as resolve_all
    from .runtime.distributed import say_once

    if not isinstance(recipe, str | Path | Recipe):
        raise InputError(f"recipe is a {type(recipe).__name__}, expected a built-in name, a file or a Recipe")
    if not isinstance(out, str | Path | None):
        raise InputError(f"out is a {type(out).__name__}, expected a folder as a text or a Path")
    if on_event is not None and not callable(on_event):
        raise InputError(f"on_event is a {type(on_event).__name__}, expected a function of one fastdd.Event")
    if isinstance(recipe, str | Path):
        if data is None:
            from .config.downloads import require_known_root
            from .recipes.resolve import data_root
            from .runtime.hub import HubSet, is_hub

            root = data_root(str(recipe), overrides)
            require_known_root(root)  # before torch is imported
            if root is not None and is_hub(root) and not download:
                HubSet.of(root).folder()
        found = resolve_all(str(recipe), overrides, add, arms, students)
        say_once(found.note)
        resolved, reduced = found.recipe, found.reduced
    elif overrides or add or arms or students:
        raise InputError(
            "overrides, add, arms and students need a recipe by name or file; a Recipe object is complete"
        )
    else:
        resolved, reduced = recipe, {}
    from .runs.given_networks import with_given_networks
    from .runs.pipeline import run as run_pipeline

    if data is not None:
        from .data.real_data import with_datasets

        resolved = with_datasets(resolved, data)
    resolved = with_given_networks(resolved, teacher, student)
    if download:
        from .runs.given_networks import download_data, download_teachers
        from .teachers.recipe_names import check_names

        check_names(resolved)
        download_data(resolved)
        download_teachers(resolved)
    folder = Path(out or f"runs/{resolved.name}")
    return run_pipeline(
        resolved,
        folder,
        fresh=fresh,
        until=until,
        part=part,
        reduced=reduced,
        on_event=on_event,
        outlook=outlook,
    )


def load(
    path: str | Path,
    arm: str | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
    soft: bool = False,
    transform: Callable[[Tensor], object] | None = None,
    download: bool = False,
) -> LoadedSet:
    """Read a distilled set as a torch Dataset, for a training loop of one's own.

    Args:
        path: a run's folder, what ``fastdd export`` wrote, images in folders by class, the released layout's
            among them, or ``hf:ORG/NAME`` (or ``hf:ORG/NAME@REVISION``), a set of the Hugging Face hub.
        arm: the arm of a run with several.
        size: side in pixels to which images are resized; None: they keep their size.
        channels: 3 for RGB, 1 for luminance; None: as the run's students see them, else 3.
        soft: whether items also have the teacher's logits of the image, float32 [classes].
        transform: makes of a uint8 image [C, H, W] what an item has; None: it stays as it is.
        download: download a set of the hub that the cache lacks.

    Returns:
        A Dataset of (image, class), also with ``images``, ``labels``, ``classes``, ``logits``, ``normalize``
        and ``views(epoch)``, which replays the views that a run's students saw with their stored labels.

    Raises:
        fastdd.errors.InputError: there is no set, an image cannot be read, or soft labels are asked for and
        there are none.
    """
    from .evaluate.loaded_set import load as load_set

    return load_set(
        path, arm, size=size, channels=channels, soft=soft, transform=transform, download=download
    )


def register_method(name: str, declaration: Declaration | Patch) -> None:
    """Make a method of your own known: recipes may then say ``method: NAME``, and there are recipes
    DATASET-NAME.

    Args:
        name: letters, digits, ``_``, ``+`` and ``-``.
        declaration: values in the keys of ``method`` in recipes, such as ``{"init": "real", "steps": 500}``;
            a ``fastdd.methods.Declaration`` says more, such as what differs by data set.

    Raises:
        fastdd.errors.InputError: the name is taken, or the declaration is no mapping.
    """
    from .methods import register_method as register

    register(name, declaration)


def register_network(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a network of your own known: ``teacher.network=NAME`` and ``student.network=NAME`` then mean it.

    Args:
        name: letters, digits and ``_ . + -``.
        builder: a function or class that returns an untrained module, whose output is logits [N,
            num_classes]. It is called with ``num_classes`` and ``channels`` where its signature takes them.

    Raises:
        fastdd.errors.InputError: the name is taken, or the builder needs other arguments.
    """
    from .models.registry import register_network as register

    register(name, builder)


def register_protocol(name: str, values: Mapping[str, object]) -> None:
    """Make a protocol of your own known: ``student.protocol=<name>`` and ``fastdd evaluate --protocol
    <name>`` take it.

    Args:
        name: letters, digits and ``_ . + -``.
        values: keys of a recipe's section ``student`` and their values, such as ``{"epochs": 300, "batch":
            50}``; what is left out is the house protocol's.

    Raises:
        fastdd.errors.InputError: the name is taken, a key is unknown, or a value is of the wrong type or out
        of range.
    """
    from .protocols import register_protocol as register

    register(name, values)


def register_term(name: str, term: type[Term[Any, Any]]) -> None:
    """Make a term of your own known: recipes may then say ``terms.<name>`` (see ``fastdd.recover.Term``).

    Raises:
        fastdd.errors.InputError: the name is taken, or the class is no term; the message says what it lacks.
    """
    from .recover import register_term as register

    register(name, term)


def register_source(name: str, source: DatasetFunction | Layout) -> None:
    """Make a data source of your own known: ``data.root=NAME:REST`` is then opened by it.

    Args:
        name: two letters or more.
        source: a function that takes REST and "train" or "test" and returns a map-style torch Dataset of
            (image, label); or a ``fastdd.data.Layout``, which may also recognize roots that have no name in
            front.

    Raises:
        fastdd.errors.InputError: the name is taken, or the source is something else.
    """
    from .data.sources.base import register_source as register

    register(name, source)
