"""DiRe (arXiv 2512.13083): a diversity regularizer that can be added to any method.

    L += weight sum_c (r_cd CD + r_cdm CDM + r_edm EDM)

CD is the cosine diversity of the embeddings of a class's synthetic images; CDM and EDM match their
distribution to that of the real ones by cosine and Euclidean distance. CD needs several images of a class in
a batch: the released batch holds 10 slots of each class.

RELEASED is what the CIFAR-100 script, the only one, changes in SRe2L and how it reads and weighs the terms;
the recipes DATASET-dire use it. Its weights are the multiplier 0.1 times (1, 1, 0.01), beside a BatchNorm
weight of 1. It starts from per-class tensors that were not released, where the paper says noise; we start
from real images. For images of 224 pixels a batch has 10 classes and so is as large as SRe2L's.

``--add dire`` has values of ours. It reads the terms as the text describes them (``reading: clean``), since
the released reading leaves out pairs that have nothing to do with each other, and so depends on how many
images a batch and a class hold. With 10 images of a class in a batch its CD is 10/9 of the released one, and
CDM and EDM differ by one part in as many as the class has real images, so the weights are the same numbers.
They belong to a BatchNorm weight of 1, where most methods have 0.01, so ``weight: bn`` multiplies them by the
method's. (With the bare weights CD is 64 % of SRe2L's BatchNorm term and pushes apart 14 times as hard as EDM
pulls to the real images.) At a BatchNorm weight of 1 coverage falls here, from 0.0081 to 0.0061, where the
paper reports a rise; it states neither its k nor its number of images.

The paper also adds DiRe to DM and MTT, but neither code nor weights of that are released. There its gradient
has a tenth of the norm of the method's own.
"""

from ..config.sources import code, ours
from .declaration import Addition, Patch, borrowed, register_addition

RELEASED: Patch = {
    "init": code("real"),
    "batch": {"classes": code(50)},
    "terms": {
        "bn": {"weight": code(1.0)},
        "dire": {
            "weight": code(1.0),
            "r_cd": code(0.1),
            "r_cdm": code(0.1),
            "r_edm": code(0.001),
            "reading": code("code"),
        },
    },
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
                "weight": ours("bn"),
                "r_cd": ours(0.1),
                "r_cdm": ours(0.1),
                "r_edm": ours(0.001),
                "reading": ours("clean"),
                "real_per_class": ours("all"),
            }
        },
        beside_match={"through": ours("teacher"), "share": ours(0.1)},
        several_slots=code(10),
        over="sre2l",
        released=released,
        protocol_on={"cifar10": ours("dire"), "cifar100": code("dire")},
    ),
)
