"""Real images in: folders, archives, shards and the built-in digits, behind one interface.

    dataset = open_dataset("cifar10.tar.xz", "train")       # a Dataset: classes, labels, names; no pixels yet
    for batch in open_loader(dataset, 64, (32, 32), order="shuffled", crop=Crop()): ...
    kept = resident(dataset, (32, 32), device="cuda")       # uint8 [N, 3, 32, 32] in the device's memory
    problems = check("photos/")                             # everything wrong with a data set, at once

Where to look:

    open.py        from a root to a Dataset; dataset.py says what that is
    sources/       one data layout a file; base.py says what a layout is, tree.py has the rules for files
    decode.py      from the bytes of one image to pixels, after verify.py has looked at the bytes
    loading/       loader.py reads a Dataset in batches, by two backends; resident.py keeps one in memory
    check.py       lists all problems, and finds the images that cannot be read
    sampling.py    seeded choices of images
    real_data.py   the splits as a recipe wants them
"""

from .check import check, scan
from .dataset import Dataset, DatasetSummary, summary
from .loading.batch import Batch, Loader
from .loading.crops import Crop
from .loading.loader import open_loader
from .loading.resident import Resident, resident
from .open import open_dataset
from .sampling import proportional_sample, real_sample, with_validation
from .sources.base import Layout, Problem, SplitImages

__all__ = [
    "Batch",
    "Crop",
    "Dataset",
    "DatasetSummary",
    "Layout",
    "Loader",
    "Problem",
    "Resident",
    "SplitImages",
    "check",
    "open_dataset",
    "open_loader",
    "proportional_sample",
    "real_sample",
    "resident",
    "scan",
    "summary",
    "with_validation",
]
