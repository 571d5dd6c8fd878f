"""INFER's post-training on CIFAR: SRe2L's with batches of 64 and a teacher in eval mode.

infer           static labels: each image has one label as it is stored, and labels are mixed as images are
infer-dynamic   the papers' INFER(D): the teacher labels each mixed batch. A set of M teachers holds M + 1
                times as many images, so that 80 epochs with M = 4 show as many as 400 epochs of others

Released labels are the mean logits of the four teachers, as in recipes DATASET-infer
(``labels.teachers: all``).
"""

from ..config.sources import code
from .registry import register_protocol
from .sre2l import CIFAR

STATIC = {
    **CIFAR,
    "batch": code(64),
    "labels": code("stored"),
    "teacher_mode": code("eval"),
    "test_every": code(10),
    "reported": code("best"),
}
DYNAMIC = {**STATIC, "epochs": code(80), "labels": code("online")}

register_protocol("infer", STATIC)
register_protocol("infer-dynamic", DYNAMIC)
