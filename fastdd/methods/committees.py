"""The further teachers of methods that hear several, by data set; the first is the run's own.

Networks that small images need and that are not here by name are left out: G-VBSM's ConvNet and WRN-16-2, EDC's three
ConvNets, INFER's ShuffleNet G2. Those that are here but were changed for small images by the authors are torchvision's.
"""

from __future__ import annotations

from typing import Any

from ..config.sources import Source, Sourced, code, ours

Members = dict[str, dict[str, Any]]


def _members(source: Source, networks: str, minimum: float | None = None) -> Members:
    """Teachers by the names of their networks; ``minimum`` accuracy where it is not that of the run's own teacher."""
    floor = {} if minimum is None else {"minimum_accuracy": ours(minimum)}
    return {name: {"network": Sourced(name, source), **floor} for name in networks.split()}


GVBSM_SMALL = _members("code", "mobilenet_v2 shufflenet_v2_x0_5", 0.2)
CVDD_SMALL = _members("code", "resnet50_small shufflenet_v2_x0_5 mobilenet_v2 densenet121", 0.2)

COMMITTEES: dict[str, dict[str, Members]] = {
    "gvbsm": {
        "cifar100": GVBSM_SMALL,
        "tiny": GVBSM_SMALL,
        "imagenet1k": _members("code", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5"),
        "imagenette": _members("ours", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5", 0.6),
    },
    "edc": {
        "cifar100": GVBSM_SMALL,
        "tiny": GVBSM_SMALL,
        "imagenet1k": {
            **_members("code", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5"),
            "alexnet": {"network": code("alexnet"), "lr": ours(0.01)},  # without BatchNorm 0.1 is too much
        },
        "imagenette": _members("ours", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5", 0.6),
    },
    "infer": {
        "cifar100": _members("code", "mobilenet_v2 efficientnet_b0", 0.2),
        "tiny": _members("ours", "mobilenet_v2 efficientnet_b0", 0.2),
        "imagenet1k": _members("code", "mobilenet_v2 efficientnet_b0"),
        "imagenette": _members("ours", "mobilenet_v2 efficientnet_b0", 0.6),
    },
    "cvdd": {
        "cifar10": _members("ours", "resnet32"),
        "cifar100": CVDD_SMALL,
        "tiny": CVDD_SMALL,
        "imagenet1k": _members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121"),
        "imagenette": _members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121", 0.6),
    },
}


def committee(method: str, dataset: str) -> Members:
    """Further teachers of a method on a data set, by name: what differs from the data set's teacher."""
    return COMMITTEES.get(method, {}).get(dataset, {})
