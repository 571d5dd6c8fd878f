"""CV-DD (Cui et al., 2025): SRe2L++ through a committee of teachers, two of which vote at a time with equal weight.

The released code draws the two anew for each slot, and keeps them over its steps; here they are drawn for each step, so
that all slots hear all teachers. It also knows weights by the teachers' accuracy, which are not offered.

Its committees are the released ones, but on CIFAR-10, where one CIFAR ResNet is enough for two processor cores.
"""

from ..config.sources import code, ours
from . import sre2lpp
from .declaration import Declaration, members, register_method

METHOD = {**sre2lpp.METHOD, "title": code("CV-DD"), "ensemble": ours(2)}
SMALL = members("code", "resnet50_small shufflenet_v2_x0_5 mobilenet_v2 densenet121", 0.2)
COMMITTEE = {
    "cifar10": members("ours", "resnet32"),
    "cifar100": SMALL,
    "tiny": SMALL,
    "imagenet1k": members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121"),
    "imagenette": members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121", 0.6),
}

register_method("cvdd", Declaration(METHOD, sre2lpp.SCRIPTS, sre2lpp.ON, committee=COMMITTEE))
