"""The bank: statistics of the real data, built in one pass, read one class at a time.

gather.py makes a class's statistics of its rows, collect.py is the pass of the teacher over the images, build.py
what of it is left to do and by whom, store.py the files, whole.py joins them, merge.py those of several banks.
patches.py holds the statistics of single images, and what follows from them for all classes together.
"""

from .build import RealImages, build
from .merge import merge
from .patches import Spread, over_all
from .store import Bank, ClassStatistics
from .whole import is_whole

__all__ = ["Bank", "ClassStatistics", "RealImages", "Spread", "build", "is_whole", "merge", "over_all"]
