"""Distilled image sets, whoever made them: opened in any layout.

    distilled = open_set("runs/digits", arm="deda")      # or a released folder, or any ImageFolder
    labels = distilled.classes_of(real.classes)          # int64 [N], in the real set's order

layouts.py lists files and says which class each has, runs.py finds the set of a run and what its folder says of it,
sets.py decodes.
"""

from .runs import channels_of
from .sets import DistilledSet, open_set

__all__ = ["DistilledSet", "channels_of", "open_set"]
