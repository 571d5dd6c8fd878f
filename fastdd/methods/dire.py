"""DiRe (arXiv 2512.13083): a diversity regulariser that can be added to any method.

    L += sum_c r_cos (CD + CDM) + r_euc EDM

on embeddings: cosine diversity among a class's synthetic images, cosine and Euclidean distribution matching
to its real ones. The released weights are multiplier 0.1 times (1, 0.01). CD needs several images of a
class in a batch: the released batch holds 10 slots of each class.
"""

from ..provenance import code, ours

ADDITION = {
    "title": "DiRe",
    "several_slots": code(10),
    "terms": {
        "dire": {"r_cos": code(0.1), "r_euc": code(0.001), "reading": ours("clean"), "real_per_class": ours("all")}
    },
}
