"""DEDA (Li et al., ICCV 2025): class-wise Gaussian alignment and a covariance regularizer.

    L = CE + sum_{l<L} (||mu_S - mu_T||^2 + gamma ||Cov_S - Cov_T||_F^2) + lambda1 L_Var + lambda2 L_Cov
    (eq. 9)

All statistics belong to one class, so a batch is all images of one class. Many such batches share a unit,
which changes nothing: the teacher is frozen and Adam works element by element.

The paper leaves these open, and a key decides each: the layers (``gaussian.layers``), whether the covariance
term is divided by the width (``gaussian.cov_norm``), biased or unbiased covariance (``cov_unbiased``) and the
epsilon of the hinge (``covariance.eps``, VICReg's 1e-4). The paper gives neither start, learning rate nor
augmentation ("settings of prior works"). From noise at SRe2L's learning rate 0.25, high-frequency texture
matches the pooled statistics, which do not contain the spatial variance, and students learn little. From real
images with a small learning rate the statistics reach the class's and the images stay natural, so that is the
default here; ``deda-paper`` has the paper's settings. Crops and steps on larger images are SRe2L's. A single
image has no covariance, so with one image a class only the mean is matched.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method


def terms(layers: str) -> Patch:
    """The terms of eq. 9, on a kind of layers."""
    return {
        "ce": {"weight": paper(1.0)},
        "gaussian": {
            "weight": paper(1.0),
            "gamma": paper(50.0),
            "layers": ours(layers),
            "cov_norm": paper("none"),
            "cov_unbiased": paper(False),
        },
        "covariance": {
            "lambda_var": paper(0.2),
            "lambda_cov": paper(4.0),
            "eps": ours(1e-4),
            "unbiased": paper(False),
        },
    }


METHOD = {
    "title": paper("DEDA"),
    "init": ours("real"),
    "batch": {"classes": paper(1), "slots": ours("all")},
    "augment": {"scale": code(None), "flip": code(0.0), "roll": code([0, 4])},
    "terms": terms("blocks"),
    "steps": code(1000),
    "lr": ours(0.02),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {
        "augment": {"scale": ours([0.08, 1.0]), "flip": ours(0.5), "roll": ours([-4, 4])},
        "steps": ours(4000),
    },
    "imagenet1k": {
        "augment": {"scale": ours([0.08, 1.0]), "flip": ours(0.5), "roll": ours([0, 32])},
        "steps": ours(4000),
    },
}


def at(dataset: str | None, ipc: int) -> Patch:
    """With one image a class there is no covariance to match or to regularize."""
    return {"terms": {"gaussian": {"gamma": ours(0.0)}, "covariance": ours(None)}} if ipc == 1 else {}


register_method("deda", Declaration(METHOD, SCRIPTS, ON, at))
