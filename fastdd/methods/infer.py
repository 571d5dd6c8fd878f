"""INFER (Zhang et al., ICLR 2025): an offset that real images of all classes share, one for each slot and teacher.

    x = real + u,   L = CE + r_bn BN,   on u alone

A batch is one image of every class. What IPC means, and how many images are stored, see recover/offset.py. Values are
those of the CIFAR script, which weighs the statistics with 1; that of ImageNet takes 2,000 steps and 0.01. The released
code drops one BatchNorm of its third teacher; all are matched here.
"""

from ..provenance import code, paper

METHOD = {
    "title": paper("INFER"),
    "init": paper("real"),
    "batch": {"classes": paper("all"), "slots": paper(1)},
    "augment": {"scale": code(None), "flip": code(0.0), "roll": code([0, 4])},
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(1.0), "first": code(10.0)}},
    "offset": {"before_last_step": code(True)},
    "steps": code(1000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
