"""Real images in: the digits, image folders and archives, behind one interface.

    dataset = open_dataset("cifar10.tar.xz", "train")
    images = dataset.images(size=(32, 32))        # uint8 [N, 3, 32, 32], class 0 first
    for batch in open_loader(dataset, 64, (32, 32), order="shuffled", crop=Crop()): ...
    kept = resident(dataset, (32, 32), device="cuda")

open.py opens, dataset.py is what it gives, dataset.py tells it in plain values; check.py lists all that is
wrong, unreadable.py the images that cannot be read. Below them: sources/detect.py (which layout a root has) and sources/layout.py
(the rules of all); sources/folder.py, sources/tar_archive.py on sources/tar_headers.py, sources/tiny_imagenet.py, sources/webdataset.py on sources/webdataset_paths.py (where bytes come
from, for the reader of sources/encoded.py); sources/digits.py, and sources/cifar.py on sources/inert_pickle.py (images that come decoded);
loading/verify.py and loading/decode.py (from bytes to pixels), runtime/memory.py (how many may be held). loading/loader.py reads in
batches: loading/order.py (which images, in which order), loading/crops.py (which window), loading/stream.py (the pass), and the
backends loading/torchvision_backend.py and loading/dali_backend.py with loading/dali_graph.py; loading/resident.py keeps a set on the device,
loading/augment.py augments it there.
"""

from .check import check
from .dataset import Dataset, summary
from .loading.batch import Batch, Loader
from .loading.crops import Crop
from .loading.loader import open_loader
from .loading.resident import Resident, resident
from .open import open_dataset
from .sampling import proportional_sample, real_sample
from .sources.layout import Problem
from .unreadable import scan

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
