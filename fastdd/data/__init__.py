"""Real images in: the digits, image folders and archives, behind one interface.

    dataset = open_dataset("cifar10.tar.xz", "train")
    images = dataset.images(size=(32, 32))        # uint8 [N, 3, 32, 32], class 0 first

index.py opens, dataset.py is what it gives, check.py lists all that is wrong. Below them: tree.py (the
layout), folder.py, archive.py and digits.py (where bytes come from), verify.py and decode.py (from bytes
to pixels), memory.py (how many may be held).
"""

from .check import check
from .dataset import Dataset, real_sample
from .index import open_dataset
from .tree import Problem

__all__ = ["Dataset", "Problem", "check", "open_dataset", "real_sample"]
