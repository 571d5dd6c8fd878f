"""The bank: statistics of the real data, built in one pass, read one class at a time.

build.py is the pass of the teacher over the images, class_statistics.py makes a class's statistics of its
rows, store.py writes the files, reader.py reads them, merge.py joins banks that were built apart.
"""

from ..data.real_data import TrainingImages
from .build import build
from .class_statistics import Kept, Spread, over_all
from .merge import merge
from .reader import Bank, ClassStatistics
from .store import is_whole

__all__ = [
    "Bank",
    "ClassStatistics",
    "Kept",
    "Spread",
    "TrainingImages",
    "build",
    "is_whole",
    "merge",
    "over_all",
]
