"""DSA (Zhao and Bilen, ICML 2021): DC with one draw of differentiable augmentation for both sides of a class.

The draw, one of six operations, is the same for the real and the synthetic images of a class in a step. The
network learns from synthetic images under draws of their own. METHOD is the released script, which starts
from real images where DC's starts from noise; the rest is dc.py.
"""

from __future__ import annotations

from ..config.sources import code, paper
from . import dc
from .declaration import Declaration, register_method

METHOD = {
    **dc.METHOD,
    "title": paper("DSA"),
    "init": code("real"),
    "match": {
        **dc.MATCH,
        "siamese": {"operations": paper(["color", "crop", "cutout", "flip", "scale", "rotate"])},
    },
}

register_method("dsa", Declaration(METHOD, dc.SCRIPTS, at=dc.at, protocol=code("dsa")))
