"""CDA (Yin and Shen, TMLR 2024): SRe2L with crops from easy to hard.

The smallest crop falls from the whole image to 8 % of its area along half a cosine; with milestone 1 it gets
there at the last step. The authors released no script for images of 32 pixels, so METHOD is their
Tiny-ImageNet script with 1,000 instead of 4,000 steps.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("CDA"),
    "init": paper("noise"),
    "batch": {"classes": code(100), "slots": code(1)},
    "augment": {
        "scale": code([0.08, 1.0]),
        "curriculum": paper("cosine"),
        "milestone": code(1.0),
        "flip": code(0.5),
        "roll": code([0, 4]),
    },
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(0.05), "first": code(10.0)}},
    "steps": ours(1000),
    "lr": code(0.4),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {"steps": code(4000)},
    "imagenet1k": {
        "augment": {"roll": code([0, 32])},
        "terms": {"bn": {"weight": code(0.01)}},
        "steps": code(4000),
        "lr": code(0.25),
    },
}

register_method("cda", Declaration(METHOD, SCRIPTS, ON))
