"""SRe2L (Yin, Xing, Shen, NeurIPS 2023): cross-entropy and global BatchNorm statistics.

    L = CE + r_bn * sum_l w_l (||v_l - running_var_l||_2 + ||m_l - running_mean_l||_2),  w_first = 10

m_l and v_l are the mean and the biased variance of the input of BatchNorm l, and the norms are plain
(unsquared). A batch is one slot of many classes. The last iterate is kept. METHOD is the CIFAR-100 script,
which others run on CIFAR-10 too (the authors released none for it). Nothing depends on the number of images a
class.
"""

from ..config.sources import code, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": code("SRe2L"),
    "init": paper("noise"),
    "batch": {"classes": code(100), "slots": code(1)},
    "augment": {"scale": code(None), "flip": code(0.0), "roll": code([0, 4])},
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(0.01), "first": code(10.0)}},
    "steps": code(1000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar100", "tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {
        "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([-4, 4])},
        "terms": {"bn": {"weight": code(1.0)}},
        "steps": code(4000),
        "lr": code(0.1),
    },
    "imagenet1k": {
        "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 32])},
        "steps": code(4000),
    },
}

register_method("sre2l", Declaration(METHOD, SCRIPTS, ON))
