"""DC (Zhao et al., ICLR 2021): gradients of a network's weights on each class, while it learns from the set.

    L = sum_c sum_layers sum_rows 1 - cos(gradient on S_c, gradient on R_c)

The network is new every O steps on the images. Between two of them it learns from all synthetic images for I
epochs, which couples them: they are optimized in one unit. With one image a class O is 1, so no network ever
learns, and classes are independent. METHOD is the released script; its K = 1000 networks make 1000 O steps.

The learning rate acts on normalized images (dm.py says what that changes).
"""

from __future__ import annotations

from ..config.sources import Sourced, code, ours, paper
from .declaration import Declaration, Patch, register_method

NETWORKS = 1000
MATCH = {
    "gradients": {"metric": paper("rows")},
    "networks": {
        "network": paper("convnet"),
        "real": paper(256),
        "inner": {"on": paper("synthetic"), "lr": paper(0.01), "momentum": code(0.0), "batch": code(256)},
    },
    "siamese": {"operations": paper([])},
}
METHOD = {
    "title": paper("DC"),
    "init": paper("noise"),
    "batch": {"classes": paper("all"), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": MATCH,
    "optimizer": paper("sgd"),
    "lr": code(0.1),
    "schedule": code("constant"),
    "momentum": code(0.5),
}
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""images a class -> (steps O that a network serves, epochs I that it learns between two of them)"""


def nearest(table: dict[int, tuple[int, int]], ipc: int) -> int:
    """The images a class of a table that are nearest to ``ipc``, the fewer of two."""
    return min(table, key=lambda known: (abs(known - ipc), known))


def at(dataset: str | None, ipc: int) -> Patch:
    """O, I and the steps. The released code knows no other numbers of images a class than the table's."""
    return loops(ipc, NETWORKS)


def loops(ipc: int, networks: int) -> Patch:
    """O and I by the table, and networks x O steps; without training where O is 1."""
    known = nearest(LOOPS, ipc)
    steps, epochs = LOOPS[known]
    source = code if known == ipc else ours
    inner: Patch | Sourced = {"epochs": source(epochs)} if steps > 1 else source(None)
    classes: Patch = {} if steps > 1 else {"batch": {"classes": ours(1)}}
    return {
        **classes,
        "match": {"networks": {"steps": source(steps), "inner": inner}},
        "steps": source(networks * steps),
    }


SCRIPTS = ("cifar10", "cifar100")
register_method("dc", Declaration(METHOD, SCRIPTS, at=at, protocol=code("dc")))
