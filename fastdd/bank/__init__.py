"""The bank: statistics of the real data, built in one pass, read one class at a time.

class_statistics.py makes a class's statistics of its rows, forward_pass.py is the pass of the teacher over the images, build.py
what of it is left to do and by whom, store.py the files, finish.py joins them, merge.py those of several banks.
image_statistics.py holds the statistics of single images, and what follows from them for all classes together.
"""

from ..data.real import RealImages
from .build import build
from .finish import is_whole
from .image_statistics import Spread, over_all
from .merge import merge
from .store import Bank, ClassStatistics

__all__ = ["Bank", "ClassStatistics", "RealImages", "Spread", "build", "is_whole", "merge", "over_all"]
