"""DiRe (arXiv 2512.13083): a diversity regularizer that can be added to any method.

    L += sum_c r_cos (CD + CDM) + r_euc EDM

CD is the cosine diversity of the embeddings of a class's synthetic images; CDM and EDM match their
distribution to that of the real ones by cosine and Euclidean distance. The released weights are the
multiplier 0.1 times (1, 0.01). CD needs several images of a class in a batch: the released batch holds 10
slots of each class.

RELEASED is what else the CIFAR-100 script, the only one, changes in SRe2L; the recipes DATASET-dire use it.
That script starts from per-class tensors that were not released, where the paper says noise; we start from
real images. For images of 224 pixels a batch has 10 classes and so is as large as SRe2L's.

The paper also adds DiRe to DM and MTT, but neither code nor weights of that are released. There its gradient
has a tenth of the norm of the method's own.
"""

from ..config.sources import code, ours
from .declaration import Addition, Patch, borrowed, register_addition

RELEASED: Patch = {
    "init": code("real"),
    "batch": {"classes": code(50)},
    "terms": {"bn": {"weight": code(1.0)}},
    "lr": code(0.1),
}


def released(dataset: str) -> Patch:
    """What the released settings change in SRe2L's on a data set."""
    if dataset == "cifar100":
        return RELEASED
    large = {"batch": {"classes": ours(10)}} if dataset in ("imagenet1k", "imagenette") else {}
    return borrowed({**RELEASED, **large})


register_addition(
    "dire",
    Addition(
        title="DiRe",
        terms={
            "dire": {
                "r_cos": code(0.1),
                "r_euc": code(0.001),
                "reading": ours("clean"),
                "real_per_class": ours("all"),
            }
        },
        beside_match={"through": ours("teacher"), "share": ours(0.1)},
        several_slots=code(10),
        over="sre2l",
        released=released,
    ),
)
