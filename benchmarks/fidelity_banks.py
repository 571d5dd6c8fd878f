"""What both sides of ``fidelity.py`` compute with: random networks, and drawn statistics of real images.

Our terms read the statistics from a stand-in for the bank. The released loops of G-VBSM and EDC read them
from files, one a layer, and with EDC one a layer and class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from fastdd.bank import Spread, over_all
from fastdd.models.build import build
from fastdd.runtime.seeds import generator
from fastdd.teachers import hooked_layers

SEED = 1
IMAGES = 50
"""images of each class that the drawn statistics of single images stand for"""
Kind = Literal["image", "patch"]


def random_network(name: str, classes: int) -> nn.Module:
    """A network with random weights and BatchNorm statistics, in the default precision."""
    torch.manual_seed(SEED)
    precision = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # ``build`` refuses another
    network = build(name, classes)
    torch.set_default_dtype(precision)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(cast("Tensor", module.running_var), 0.5, 2.0)
            nn.init.normal_(cast("Tensor", module.running_mean), 0.0, 0.3)
    return network.to(precision).eval().requires_grad_(False)


class RealBank:
    """Embeddings of a few real images of each class, all that DiRe reads of a bank."""

    def __init__(self, embeddings: list[Tensor]) -> None:
        self.rows = embeddings
        self.manifest = {"embeddings": [len(rows) for rows in embeddings]}

    def embeddings(self, c: int) -> Tensor:
        return self.rows[c]


class ClassBank:
    """BatchNorm statistics of each class, all that LPLD reads of a bank.

    Attributes:
        layers: name of a BatchNorm's module -> (mean, variance), each [classes, D]; in the bank the first is
            ``bn.0``.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                draw, size = generator(SEED, "class statistics", name), (classes, module.num_features)
                self.layers[name] = torch.randn(size, generator=draw), 0.5 + torch.rand(size, generator=draw)

    def class_batch_norm(self, layer: str, groups: list[int]) -> tuple[Tensor, Tensor]:
        mean, variance = list(self.layers.values())[int(layer.removeprefix("bn."))]
        return mean[groups], variance[groups]


class SpreadBank:
    """Statistics of single images of each class, all that the convolution term reads of a bank.

    Attributes:
        counts: images of each class.
        modules: name of a convolution or BatchNorm in the bank -> name of its module.
        order: names in the bank of the convolutions, as the network runs them.
    """

    def __init__(self, name: str, classes: int, *, side: int, patch: int) -> None:
        self.counts, self.manifest = [IMAGES] * classes, {"teacher": "random"}
        self.order: list[str] = []
        network = random_network(name, classes)
        hooked = (
            path
            for path, module in network.named_modules()
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
        )
        self.modules = dict(zip(hooked_layers(network), hooked, strict=True))
        shapes: dict[str, torch.Size] = {}

        def record(layer: str, given: Tensor) -> None:
            shapes[layer] = given.shape
            if layer.startswith("conv."):
                self.order.append(layer)

        for layer, path in self.modules.items():
            network.get_submodule(path).register_forward_pre_hook(
                lambda _, given, layer=layer: record(layer, given[0])
            )
        network(torch.zeros(1, 3, side, side))
        self.spreads: dict[tuple[str, str], Spread] = {}
        for layer, (_, channels, height, width) in shapes.items():
            patches = -(-height // patch) * -(-width // patch)
            for kind, size in (("image", channels), ("patch", patches)):
                random = generator(SEED, "spread", layer, kind)
                mean = torch.randn(classes, size, generator=random)
                within, between = torch.rand(2, classes, size, generator=random)
                self.spreads[layer, kind] = Spread(mean, 0.5 + within, between)

    def __len__(self) -> int:
        return len(self.counts)

    def spread(self, layer: str, kind: Kind, classes: Sequence[int], patch: int) -> Spread:
        return Spread(*(values[list(classes)] for values in self.spreads[layer, kind]))

    def write(self, folder: Path, prefix: str, real_batch: int) -> None:
        """Write the files that a released loop reads.

        Args:
            folder: its ``statistic_path``.
            prefix: what it puts before the name of a module.
            real_batch: size of the mini-batches whose mean variance is the statistic over all classes.
        """
        for layer, path in self.modules.items():
            convolution = layer.startswith("conv.")
            hook = "ConvFeatureHook" if convolution else "BNFeatureHook"
            kinds: list[tuple[Kind, str]] = [("image", "dd"), *([("patch", "patch")] if convolution else [])]
            for owner in ("", *(f"class_{c}" for c in range(len(self)))):
                values: dict[str, np.ndarray] = {}
                for kind, key in kinds:
                    spread = self.spreads[layer, kind]
                    if owner:
                        c = int(owner.removeprefix("class_"))
                        mean, var = spread.mean[c], spread.within[c]
                    else:
                        mean, var = over_all(spread, self.counts, real_batch)
                    values |= {f"running_{key}_mean": mean.numpy(), f"running_{key}_var": var.numpy()}
                file = folder / hook / owner / f"{prefix}={path}" / "running.npz"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez(file, **values)
