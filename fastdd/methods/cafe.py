"""CAFE (Wang et al., CVPR 2022): means of features of all layers, and real features told apart by them.

    L = sum_l w_l sum_c || mean f_l(R_c) - mean f_l(S_c) ||^2 + 0.01 sum_{x in R} CE(e(x) . mean e(S)^T, y)

The layers are the outputs of the ReLUs and the input e of the last linear layer, with weights 0.1, 0.1, 1, 2
from shallow to deep; a deeper network has more layers of 0.1, a shallower one fewer. The 2 is the weight 1 of
the last pooled map and 1 of the same numbers as a vector, which the released code adds up. METHOD is that
code but for two things. The code trains the network until the accuracy on real images stands still, by a rule
that does not reset; here it is trained as in DC, by the same table of steps and epochs, for the code's 2000
networks. And the learning rate, which the code halves three times after 60 % of them, is constant.

Images are not augmented. With ``match.siamese.operations`` and protocol dsa it is the paper's CAFE + DSA.
"""

from __future__ import annotations

from ..config.sources import code, ours, paper
from . import dc
from .declaration import Declaration, Patch, borrowed, register_method

NETWORKS = 2000
METHOD = {
    "title": paper("CAFE"),
    "init": code("noise"),
    "batch": {"classes": paper("all"), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": {
        "features": {
            "layers": paper("all"),
            "map": paper("mean"),
            "weights": code("cafe"),
            "discriminate": code(0.01),
        },
        "networks": {
            "network": paper("convnet"),
            "real": code(256),
            "inner": {"on": paper("synthetic"), "lr": code(0.01), "momentum": code(0.0), "batch": code(256)},
        },
        "siamese": {"operations": code([])},
    },
    "optimizer": paper("sgd"),
    "lr": code(0.1),
    "schedule": ours("constant"),
    "momentum": code(0.5),
}


def at(dataset: str | None, ipc: int) -> Patch:
    """DC's steps and epochs, which are not CAFE's; the discriminative term couples all classes."""
    return {**borrowed(dc.loops(ipc, NETWORKS)), "batch": {"classes": paper("all")}}


register_method("cafe", Declaration(METHOD, ("cifar10", "cifar100"), at=at, protocol=code("cafe")))
