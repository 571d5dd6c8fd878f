"""Real images in: the digits, image folders and archives, behind one interface.

    dataset = open_dataset("cifar10.tar.xz", "train")
    images = dataset.images(size=(32, 32))        # uint8 [N, 3, 32, 32], class 0 first
    for batch in open_loader(dataset, 64, (32, 32), order="shuffled", crop=Crop()): ...
    kept = resident(dataset, (32, 32), device="cuda")

index.py opens, dataset.py is what it gives, summary.py tells it in plain values; check.py lists all that is
wrong, scan.py the images that cannot be read. Below them: source.py (which layout a root has) and tree.py
(the rules of all); folder.py, archive.py on tar.py, tiny.py, shards.py on shard_paths.py (where bytes come
from, for the reader of encoded.py); digits.py, and cifar.py on inert_pickle.py (images that come decoded);
verify.py and decode.py (from bytes to pixels), memory.py (how many may be held). loader.py reads in
batches: schedule.py (which images, in which order), crops.py (which window), stream.py (the pass), and the
backends torch_loader.py and dali_loader.py with dali_pipeline.py; resident.py keeps a set on the device,
augment.py augments it there.
"""

from .check import check
from .crops import Crop
from .dataset import Dataset, proportional_sample, real_sample
from .index import open_dataset
from .loader import Batch, Loader, open_loader
from .resident import Resident, resident
from .scan import scan
from .summary import summary
from .tree import Problem

__all__ = [
    "Batch",
    "Crop",
    "Dataset",
    "Loader",
    "Problem",
    "Resident",
    "check",
    "open_dataset",
    "open_loader",
    "proportional_sample",
    "real_sample",
    "resident",
    "scan",
    "summary",
]
