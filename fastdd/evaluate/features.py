"""Features in which sets are compared: the embedding of a teacher, or of any network with local weights.

The embedding is the input of the last linear layer. A number that comes of it means nothing without the
network, its weights and the size of the pixels. Nothing is downloaded. Cost: a forward pass an image; real
images are streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import Teacher as TeacherConfig
from ..data import Dataset, open_loader
from ..data.loading.batch import OnError
from ..distilled import ListedSet
from ..errors import InputError
from ..models.build import build, to_device
from ..runtime.precision import float32_products
from ..runtime.progress import progress
from ..teachers import Card, Taps, Teacher, fingerprint, open_teacher
from ..teachers.weights import check_state, read_weights, tell

BATCH = 500
"""images of a forward pass at most"""
PIXELS = 1 << 21
"""pixels of a forward pass at most: activations of large images are large"""
PREFIX = "torchvision:"
IMAGENET = TeacherConfig().mean, TeacherConfig().std


@dataclass(frozen=True)
class Extractor:
    """A network whose embeddings are compared.

    Attributes:
        network: the network, with a card that says how images are normalized.
        text: the network and its weights in words, for reports.
    """

    network: Teacher
    text: str

    @property
    def channels(self) -> Literal[1, 3]:
        """Channels of the images that the network takes."""
        return 1 if self.network.card.channels == 1 else 3

    @property
    def device(self) -> torch.device:
        """The device of the network and of the embeddings."""
        return next(self.network.network.parameters()).device

    def __call__(self, images: Tensor) -> Tensor:
        """Embed uint8 images [N, C, H, W]: float32 [N, D], on the network's device.

        Raises:
            InputError: the network cannot take images of this size.
        """
        try:
            return embed(self.network, images.to(self.device))
        except (RuntimeError, AssertionError) as error:
            H, W = images.shape[2:]
            raise InputError(
                f"{self.text} cannot take images of {H} x {W} ({error}); give another size"
            ) from error

    def of_set(self, distilled: ListedSet) -> Tensor:
        """Embed a distilled set, a batch in memory at a time: float32 [N, D], on the network's device.

        Raises:
            InputError: an image cannot be read, or the network cannot take images of this size.
        """
        return torch.cat([self(images) for images in distilled.batches(batch_of(*distilled.shape[1:]))])

    def of_dataset(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        resize: int | None = None,
        on_error: OnError = "fail",
        *,
        indices: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed a data set in class order: float32 [N, D] and labels int64 [N], on the network's device.

        Args:
            size: (H, W) of the images in pixels.
            resize, on_error, indices: as for open_loader.

        Raises:
            InputError: an image cannot be read, or the network cannot take images of this size.
        """
        rows, labels = [], []
        batches = open_loader(
            dataset,
            batch_of(*size),
            size,
            self.channels,
            resize=resize,
            on_error=on_error,
            indices=indices,
            backend="torchvision",
        )
        with progress(f"embed {dataset.split}", len(dataset if indices is None else indices)) as bar:
            for batch in batches:
                if len(batch.images):
                    rows.append(self(batch.images))
                    labels.append(batch.labels)
                bar.advance(len(batch.images) + len(batch.skipped))
        return torch.cat(rows), torch.cat(labels).to(self.device)


def batch_of(height: int, width: int) -> int:
    """Images of a forward pass, at most."""
    return max(1, min(BATCH, PIXELS // (height * width)))


@torch.no_grad()
@float32_products("fp32")
def embed(teacher: Teacher, images: Tensor) -> Tensor:
    """Embed uint8 images [N, C, H, W] with a teacher: float32 [N, D]."""
    taps = Taps(teacher.network)
    parts = images.split(batch_of(*images.shape[2:]))
    return torch.cat([taps(teacher.normalize(part)).embedding.flatten(1) for part in parts])


def teacher_features(path: Path, device: torch.device, network: str | None = None) -> Extractor:
    """The embedding of a teacher that squeeze or a run wrote.

    Args:
        path, device, network: as for open_teacher.

    Raises:
        InputError: the file does not exist, is no file of weights or has no card, its card names a function
            and ``network`` is None, or its weights do not fit.
    """
    if read_weights("--teacher", path).card is None:
        raise InputError(
            f"--teacher: {path} has no card; name its network with --features NETWORK --weights {path}"
        )
    teacher = open_teacher(path, device, network)
    return Extractor(teacher, f"teacher {teacher.card.network} (weights {fingerprint(path)[:12]})")


def network_features(
    name: str,
    weights: Path | None,
    device: torch.device,
    *,
    random_weights: bool = False,
    mean: tuple[float, ...] = IMAGENET[0],
    std: tuple[float, ...] = IMAGENET[1],
) -> Extractor:
    """The embedding of a network by name.

    Args:
        name: ``torchvision:MODEL``, or a small-image network such as ``resnet20``; the network takes RGB.
        weights: a local file of weights, see teachers/weights.py, for any number of classes.
        device: where the network is put.
        random_weights: whether random weights, of seed 0, are taken instead.
        mean, std: constants with which images in [0, 1] are normalized.

    Raises:
        InputError: there is no such network or file, the weights do not fit, or neither weights nor random
            ones are asked for.
    """
    short = name.removeprefix(PREFIX)
    if weights is None and not random_weights:
        raise InputError(
            f"--features: {name} needs --weights FILE, for nothing is downloaded; --random-weights takes "
            "random ones"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(short, 1000)
    last = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not last:
        raise InputError(
            f"--features: {name} has no linear layer to take embeddings from; choose another network"
        )
    classes, text = 1000, f"{name} (random weights, seed 0)"
    if weights is not None:
        given = read_weights("--weights", weights).fitted(short, network.state_dict())
        head = given.state.get(f"{last[-1]}.weight")
        if head is not None and head.ndim and len(head) != classes:
            classes = len(head)
            network = build(short, classes)
        check_state("--weights", weights, short, wanted=network.state_dict(), given=given.state)
        tell("--weights", weights, given.notes)
        network.load_state_dict(given.state)
        text = f"{name} (weights {fingerprint(weights)[:12]})"
    network = to_device(network, device)
    card = Card(short, tuple(map(str, range(classes))), 3, mean=mean, std=std)
    return Extractor(Teacher(network.eval().requires_grad_(False), card), text)


# -- CLIP's image embedding (DiRe, Table 16) --
#
# ``clip:FILE`` names weights of OpenCLIP's or OpenAI's vision transformers, such as ViT-B/32 on LAION-2B; the
# file tells which. timm builds the network. OpenAI's own weights were trained with a faster form of GELU and
# are ``clip-quickgelu:FILE``. Images of any size are enlarged to the 224 pixels that the network takes.

PREFIXES = {"clip:": "", "clip-quickgelu:": "_quickgelu"}
"""what a name begins with, and what timm's name of the network then has"""
NETWORKS = {
    (768, 32): "vit_base_patch32_clip{}_224",
    (768, 16): "vit_base_patch16_clip{}_224",
    (1024, 14): "vit_large_patch14_clip{}_224",
}
"""(width, side of a patch) of the first convolution -> timm's name of the network"""
SIDE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""constants with which CLIP normalizes images in [0, 1]"""


class _Embedding(nn.Module):
    """CLIP's vision transformer with a last linear layer that only marks its input as the embedding."""

    def __init__(self, vision: nn.Module, width: int) -> None:
        super().__init__()
        self.vision = vision
        self.mark = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return self.mark(self.vision(x))


def is_clip(name: str) -> bool:
    """Whether a name of features is one of CLIP's."""
    return name.startswith(tuple(PREFIXES))


def clip_features(key: str, name: str, device: torch.device) -> Extractor:
    """CLIP's embedding of images, before it is scaled to length one.

    Args:
        key: the recipe's key or the option that gives the name, for messages.
        name: ``clip:FILE`` or ``clip-quickgelu:FILE``.
        device: where the network is put.

    Raises:
        InputError: timm is not installed, or the file is absent or holds no vision transformer of CLIP.
    """
    prefix = next(each for each in PREFIXES if name.startswith(each))
    path = Path(name.removeprefix(prefix))
    try:
        import timm
        from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
    except ImportError as error:
        raise InputError(f"{key}: {prefix}FILE needs timm; pip install 'fastdd[timm]'") from error
    given = read_weights(key, path)
    first, projection = given.state.get("visual.conv1.weight"), given.state.get("visual.proj")
    shape = (0, 0) if first is None or first.ndim != 4 else (first.shape[0], first.shape[-1])
    if first is None or projection is None or projection.ndim != 2 or shape not in NETWORKS:
        raise InputError(
            f"{key}: {path} holds no vision transformer of CLIP that is known here (ViT-B/32, ViT-B/16 or "
            "ViT-L/14, with tensors such as visual.conv1.weight); give OpenCLIP's or OpenAI's file"
        )
    width, network = projection.shape[1], NETWORKS[shape].format(PREFIXES[prefix])
    vision = timm.create_model(network, num_classes=width)
    assert isinstance(vision, VisionTransformer)  # all of NETWORKS are
    try:
        vision.load_state_dict(checkpoint_filter_fn(given.state, vision))
    except RuntimeError as error:
        raise InputError(
            f"{key}: {path} does not fit {network} ({str(error).splitlines()[-1].strip()})"
        ) from error
    tell(key, path, given.notes)
    embedding = to_device(_Embedding(vision, width), device).eval().requires_grad_(False)
    card = Card(network, ("image",), 3, mean=MEAN, std=STD)
    return Extractor(Teacher(embedding, card), f"CLIP {network} (weights {fingerprint(path)[:12]})")
