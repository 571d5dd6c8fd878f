"""Weights that torchvision and timm release, named in ``teacher.weights`` and ``teacher.init``.

    torchvision:IMAGENET1K_V1     of the torchvision model that ``teacher.network`` names
    timm:resnet18.a1_in1k         of the timm model of that name, ``teacher.network=timm:resnet18``

They are read from the cache in which these libraries keep them. Nothing is downloaded but by ``download``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torchvision import models

from ..errors import InputError, suggestion
from ..models.doors import timm_builder
from ..models.torchvision_models import TORCHVISION
from ..runtime.console import counted
from ..runtime.hub import require_reachable

LIBRARIES = ("torchvision", "timm")
"""libraries whose released weights have names, such as ``timm:resnet18.a1_in1k``"""
IMAGENET = 1000
"""classes of ImageNet-1K"""
WORDNET = re.compile(r"n\d{8}")
"""an id of WordNet, as the folders of ImageNet are named"""
HASH = re.compile(r"-([0-9a-f]{8,})\.")
"""the first digits of a file's sha256, which torchvision writes into its name"""
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""files of weights in a repository of timm on the hub, the first that is there"""


@dataclass(frozen=True)
class Released:
    """Weights that somebody released.

    Attributes:
        key: the recipe's key that names them, for messages.
        names: lists of the names of their classes in the order of the logits, one for each way to name them,
            such as words and ids of WordNet; empty: the names are unknown.
        size: (H, W) in pixels of the images on which they were tested.
        place: where the file lies in the cache, in words.
        command: downloads it on a machine with a network.
    """

    key: str
    name: str
    names: tuple[tuple[str, ...], ...]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    place: str
    cached: Callable[[], Path | None]
    fetch: Callable[[], object]
    command: str

    def file(self) -> Path:
        """The file in the cache."""
        path = self.cached()
        if path is None:
            raise InputError(
                f"{self.key}: {self.name} is not in {self.place}; add --download, or get it elsewhere with "
                f"`{self.command}` and copy it there"
            )
        digits = HASH.search(path.name)
        if digits:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if not found.startswith(digits[1]):
                raise InputError(
                    f"{self.key}: {path} is damaged: its sha256 begins with {found[:8]}, expected "
                    f"{digits[1]}; delete it, and get it again with --download or `{self.command}`"
                )
        return path

    def download(self) -> None:
        """Download the file into the cache, unless it is there."""
        if self.cached() is not None:
            return
        try:
            self.fetch()
        except Exception as error:  # clients of hubs fail in many ways
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"{self.key}: {self.name} cannot be downloaded ({reason:.160}); get it elsewhere with "
                f"`{self.command}` and copy it into {self.place}"
            ) from error

    def check_classes(self, classes: Sequence[str]) -> str:
        """Compare the classes of the data with those of the weights, by name where names are known.

        Returns:
            How they were compared, in words.

        Raises:
            InputError: there are more or fewer, or they are others, or in another order.
        """
        ours = [_plain(name) for name in classes]
        if len(ours) != self.classes:
            section = self.key.rpartition(".")[0]
            raise InputError(
                f"{self.key}: {self.name} knows {counted(self.classes, 'class')}, but the data has "
                f"{len(ours)}; train it on yours with {section}.init={self.name} {section}.new_head=true "
                f"{section}.weights=null"
            )
        if ours == [str(number) for number in range(len(ours))]:
            return "the data numbers its classes, so that their order was taken as that of the weights"
        by_id = all(WORDNET.fullmatch(name) for name in ours)
        known = [names for names in self.names if by_id == bool(WORDNET.fullmatch(names[0]))]
        if not known:
            return "the names of its classes are not known here, so that only their number was compared"
        theirs = max(known, key=lambda names: len({*map(_plain, names)} & {*ours}))
        for number, (mine, name) in enumerate(zip(ours, theirs, strict=True)):
            if mine != _plain(name):
                raise InputError(
                    f"{self.key}: {self.name} knows other classes, or in another order: class {number} is "
                    f"{name!r} there and {classes[number]!r} in the data; name the folders so that they "
                    "sort as the classes of the weights"
                )
        return f"the names of its {len(ours)} classes are those of the data, in the same order"


def _plain(name: str) -> str:
    """A name of a class as it is compared: ``Great_white-shark`` is ``great white shark``."""
    return re.sub(r"[_\-\s]+", " ", name).strip().casefold()


def released(key: str, text: str | None, network: str) -> Released | None:
    """The released weights that a text names; None: it names a file, or nothing.

    Args:
        key: the recipe's key whose value the text is, for messages.

    Raises:
        InputError: there are no such weights, or they are of another network.
    """
    library, colon, name = (text or "").partition(":")
    if not colon or library not in LIBRARIES:
        return None
    return (_of_torchvision if library == "torchvision" else _of_timm)(key, name, network)


def weights_file(key: str, text: str, network: str) -> Path:
    """The file of weights that a recipe names: by its path, or as released weights."""
    found = released(key, text, network)
    return Path(text) if found is None else found.file()


# -- torchvision -----------------------------------------------------------------------------------


def _of_torchvision(key: str, name: str, network: str) -> Released:
    section, model = key.rpartition(".")[0], network.removeprefix("torchvision:")
    if model not in TORCHVISION:
        raise InputError(
            f"{key}: torchvision:{name} are weights of a network of torchvision, but {section}.network is "
            f"{network}; name one, for example {section}.network=resnet18"
        )
    choices = models.get_model_weights(model).__members__
    if name not in choices:
        known = ", ".join(choices) or "none"
        raise InputError(
            f"{key}: torchvision has no weights {name!r} of {model}{suggestion(name, choices)}; known: "
            f"{known}"
        )
    weights = choices[name].value
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / weights.url.rpartition("/")[2]
    categories, transform = tuple(weights.meta["categories"]), weights.transforms()
    words, ids = [categories], _imagenet_ids()
    if len(categories) == IMAGENET and ids:
        words.append(ids)
    (side,) = transform.crop_size
    digits = HASH.search(path.name)

    def fetch() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(path), digits[1] if digits else None)

    return Released(
        key,
        f"torchvision:{name}",
        tuple(words),
        len(categories),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        size=(side, side),
        place=str(path),
        cached=lambda: path if path.is_file() else None,
        fetch=fetch,
        command=f"curl -LO {weights.url}",
    )


# -- timm ------------------------------------------------------------------------------------------


def _of_timm(key: str, name: str, network: str) -> Released:
    section = key.rpartition(".")[0]
    model, _, tag = name.partition(".")
    try:
        timm_builder(model)
    except InputError as error:  # timm is not installed, or has no such model
        raise InputError(f"{key}: {error}") from error
    import timm

    released_tags = {each.partition(".")[2]: each for each in timm.list_pretrained(f"{model}.*")}
    if tag not in released_tags:
        known = ", ".join(f"timm:{each}" for each in released_tags.values()) or "none"
        raise InputError(f"{key}: timm has no weights timm:{name}; those of {model}: {known}")
    if network != f"timm:{model}":
        raise InputError(
            f"{key}: timm:{name} are weights of timm:{model}, but {section}.network is {network}; to use "
            f"them add {section}.network=timm:{model}"
        )
    about = timm.get_pretrained_cfg(name)
    if about is None or not about.hf_hub_id:
        raise InputError(
            f"{key}: timm:{name} has no repository on the hub; save it with timm to a file, and give that"
        )
    files = (about.hf_hub_filename,) if about.hf_hub_filename else HUB_FILES
    return Released(
        key,
        f"timm:{name}",
        _timm_names(about),
        about.num_classes,
        mean=tuple(about.mean),
        std=tuple(about.std),
        size=(about.input_size[1], about.input_size[2]),
        place=f"the cache of huggingface_hub ({about.hf_hub_id})",
        cached=partial(_hub_cached, about.hf_hub_id, files),
        fetch=partial(_hub_fetch, about.hf_hub_id, files),
        command=f"hf download {about.hf_hub_id} {files[0]}",
    )


def _hub_cached(repository: str, files: Sequence[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _hub_fetch(repository: str, files: Sequence[str]) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    require_reachable()
    for file in files:
        try:
            hf_hub_download(repository, file)
        except LocalEntryNotFoundError:  # there is no network
            raise
        except EntryNotFoundError:
            if file == files[-1]:
                raise
        else:
            return


def _timm_names(about: object) -> tuple[tuple[str, ...], ...]:
    """What timm knows of the names of a model's classes: ids of WordNet and words of an ImageNet."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if names := getattr(about, "label_names", None):
        return (tuple(names),)
    subset = infer_imagenet_subset(vars(about))
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    words = [info.index_to_description(i).partition(",")[0] for i in range(info.num_classes())]
    return tuple(info.label_names()), tuple(words)


def _imagenet_ids() -> tuple[str, ...]:
    """Ids of WordNet of the classes of ImageNet-1K, which timm knows; empty where it is not installed."""
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return ()
    return tuple(ImageNetInfo("imagenet-1k").label_names())
