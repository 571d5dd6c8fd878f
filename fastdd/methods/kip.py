"""KIP (Nguyen et al., ICLR 2021): real images are regressed from the synthetic ones, by a tangent kernel.

    L = mean (K_ts (K_ss + r I)^-1 y_s - y_t)^2 / 2

K is the tangent kernel of an infinitely wide ReLU network, s are the synthetic and t some real images, y are
one-hot classes less 1 / C. METHOD is the notebook with one hidden layer, r relative to the mean diagonal of
K_ss. The published accuracies are of convolutional kernels, which take thousands of GPU hours. No network is
drawn and nothing is augmented. The protocol is ours: the paper tests the regression, and wide networks.
"""

from __future__ import annotations

from ..config.sources import code, ours, paper
from .declaration import Declaration, register_method

METHOD = {
    "title": paper("KIP"),
    "init": paper("real"),
    "batch": {"classes": paper("all"), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": {"kernel": {"depth": code(1), "ridge": code(1e-6), "target": code(5000)}},
    "steps": code(300),
    "optimizer": paper("adam"),
    "lr": code(0.04),
    "schedule": code("constant"),
    "betas": code([0.9, 0.999]),
}

register_method("kip", Declaration(METHOD, ("cifar10",), protocol=ours("dsa")))
