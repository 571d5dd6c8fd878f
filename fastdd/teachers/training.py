"""What the training of teachers and students shares: accuracy, weight decay, the average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import InputError
from ..models.build import as_input
from ..runtime.collective import summed

EVALUATION_BATCH = 500


class NotFiniteError(InputError):
    """A network has weights or logits that are NaN or infinite, and so no accuracy; the text says which."""


def require_finite_weights(network: nn.Module) -> None:
    """Look at all parameters; the host waits for the device once."""
    named = dict(network.named_parameters())
    if not named:
        return
    finite = torch.stack([weights.isfinite().all() for weights in named.values()]).tolist()
    if not all(finite):
        raise NotFiniteError(f"its weights {list(named)[finite.index(False)]} hold NaN or infinite values")


def accuracy(
    network: nn.Module, normalize: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> float:
    """Top-1 accuracy in [0, 1] of a classifier on uint8 images [N, C, H, W] with int64 labels [N].

    Raises:
        NotFiniteError: see streamed_accuracy.
    """
    pairs = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    return streamed_accuracy(network, normalize, pairs)


@torch.no_grad()
def streamed_accuracy(
    network: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    shared: bool = False,
) -> float:
    """Top-1 accuracy in [0, 1] of a classifier on batches (uint8 images [B, C, H, W], int64 labels [B]).

    With ``shared`` the batches of all processes are tested together, and all come together.
    """
    require_finite_weights(network)
    counts, seen = [], 0
    for images, labels in batches:
        largest, classes = network(as_input(normalize(images), network)).max(1)
        counts.append(torch.stack([(classes == labels).sum(), (~largest.isfinite()).sum()]))
        seen += len(labels)
    hits, lost = torch.stack(counts).sum(0).tolist() if counts else (0, 0)
    if shared:
        device = next(network.parameters()).device
        hits, lost, seen = summed(torch.tensor([hits, lost, seen], device=device)).tolist()
    if lost:
        raise NotFiniteError(f"its logits are NaN or infinite for {lost} of {seen} test images")
    return hits / seen if seen else 0.0


def decay_groups(
    network: nn.Module, weight_decay: float, decays: Callable[[str, nn.Parameter], bool]
) -> list[dict[str, object]]:
    """Parameter groups for a torch optimizer: the parameters with weight decay and those without.

    Args:
        decays: tells by name and tensor whether a parameter has weight decay.

    Returns:
        At most two groups; an empty one is left out.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class WeightAverage:
    """The exponential moving average of a network: its parameters and its BatchNorm statistics.

    After n steps the decay is at most (1 + n) / (10 + n), so that the random initial weights are soon
    forgotten.

    Args:
        network: the network to average; it is copied.
        decay: the largest decay, in [0, 1).

    Attributes:
        network: the average, in eval mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step; the first step is 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [
            *zip(self.network.parameters(), network.parameters(), strict=True),
            *zip(self.network.buffers(), network.buffers(), strict=True),
        ]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)([a for a, _ in floating], [b for _, b in floating], torch.tensor(step))
        for ours, theirs in pairs:
            if not ours.is_floating_point():
                ours.copy_(theirs)
