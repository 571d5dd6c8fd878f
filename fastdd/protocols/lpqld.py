"""LPQLD's post-training (TPAMI 2026): LPLD's, with falling temperatures and a student's softmax at T = 1.

The teacher's temperature is max(2, 20 x 0.7^floor(e / 30)) in epoch e of 300, counted from 1; the student's
stays 1, and nothing is multiplied by T^2. The released labels are stored: the first tenth of the batches of
views, drawn without replacement, and of a label the k largest logits without a rest:

    labels: {per: view, keep: 0.1, replay: once, form: topk, topk: 100, rest: none}

Here the teacher labels online unless ``student.labels=stored`` is set. ImageNet-21K's cutout and its
smoothing of logits are left out; its length is ours.
"""

from ..config.sources import code, ours
from .registry import register_protocol
from .sre2l import LPLD_IMAGENET

IMAGENET = {
    **LPLD_IMAGENET,
    "temperature_schedule": {
        "kind": code("step"),
        "low": code(2.0),
        "factor": code(0.7),
        "every": code(30 / 300),
    },
    "student_temperature": code(1.0),
    "test_every": code(50),
}
IMAGENET21K = {**IMAGENET, "epochs": ours(300), "batch": code(32), "lr": code(2e-3)}

register_protocol("lpqld-imagenet", IMAGENET)
register_protocol("lpqld-imagenet21k", IMAGENET21K)
