"""What makes a network a teacher: an embedding of each image, layers that can be tapped, and finite weights.

The embedding is the input of the last linear layer.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..runtime.user_code import reason
from .layer_names import device_of_network
from .taps import Features, Taps


def require_embedding(key: str, name: str, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse a network from which taps.py could take no embedding [N, D].

    Args:
        key: the recipe's key that names the network, for messages.
        network: the network as models.outline returns it, on the meta device or the CPU.

    Raises:
        InputError: it has no linear layer, or its last one does not take one vector an image.
    """
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            f"{key}: {name} has no nn.Linear, so it has no embedding, which is the input of the last one; "
            "let an nn.Linear give the logits"
        )
    last, inputs = network.get_submodule(linear[-1]), list[torch.Size]()

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0].shape)

    handle = last.register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            network(torch.zeros(2, *shape, device=device_of_network(network)))
    finally:
        handle.remove()
    if len(inputs) != 1 or len(inputs[0]) != 2:
        found = f"takes {list(inputs[0])} of 2 images" if inputs else "is not called"
        raise InputError(
            f"{key}: the last nn.Linear of {name} ({linear[-1]}) {found}, expected one call with one vector "
            "an image, its embedding; define the layer that gives the logits after all others"
        )


def require_taps(
    key: str,
    network: nn.Module,
    images: Tensor,
    layers: Collection[str],
    *,
    moments: bool = False,
    patch: int = 1,
) -> Features:
    """Record a network's layers once, as the bank and the recovery will.

    Args:
        images: normalized images [N, C, H, W] on the network's device.
        layers, moments, patch: see Taps.

    Returns:
        The logits, the embeddings and what the layers recorded.

    Raises:
        InputError: the network fails with wrapped layers, such as one that reads the weights of its last
            linear layer, or changes its images in place.
    """
    before, kind = images.clone(), type(network).__name__
    try:
        with torch.no_grad():
            features = Taps(network, layers, moments=moments, patch=patch)(images)
    except InputError:
        raise
    except Exception as error:  # a network may be anybody's code
        raise InputError(
            f"{key}: {kind} fails when its layers are recorded ({reason(error)}); call its layers as "
            "modules, and read none of their attributes in forward"
        ) from error
    if not torch.equal(images, before):
        raise InputError(
            f"{key}: {kind} changes its images in place, which others need unchanged; let it begin with "
            "x = x.clone(), or without inplace=True in its first layer"
        )
    return features


def require_no_nan(key: str, network: nn.Module, logits: Tensor) -> None:
    """Refuse a trained teacher that has computed NaN, or would.

    Args:
        logits: the teacher's logits [N, classes] for a few real images.
    """
    remedy = "give a teacher whose training did not diverge"
    for name, tensor in network.state_dict().items():
        if tensor.isnan().any():
            raise InputError(f"{key}: the tensor {name} holds NaN; {remedy}")
    if logits.isnan().any():
        raise InputError(
            f"{key}: the logits are NaN for {int(logits.isnan().any(1).sum())} of {len(logits)} real images; "
            f"{remedy}"
        )
