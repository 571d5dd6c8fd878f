"""SRe2L (Yin, Xing, Shen, NeurIPS 2023): cross-entropy and global BatchNorm statistics.

    L = CE + r_bn * sum_l w_l (||v_l - running_var_l||_2 + ||m_l - running_mean_l||_2),  w_first = 10

on the inputs of every BatchNorm, with plain (unsquared) norms and the biased variance. A batch is one
slot of many classes. The image kept is the last iterate. Values are those of the CIFAR-100 script, which
others run on CIFAR-10 too (the authors released none for it).
"""

from ..provenance import code, paper

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
