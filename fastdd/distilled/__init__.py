"""Distilled image sets, of fastdd's runs and of anybody else, read in any layout.

    distilled = open_set("runs/digits", arm="deda")      # or a released folder, or any ImageFolder
    labels = distilled.classes_of(real.classes)          # int64 [N], in the real set's order

layouts.py lists the files of a set and the class of each, runs.py finds the
set of a run and what the run says of it, sets.py decodes the images, formation.py unpacks several images from
one, tiles.py cuts those that are tiles, and images.py writes and reads the images of a run.
"""

from .layouts import set_name
from .runs import RunSource, arms_of, channels_of
from .sets import DistilledSet, ListedSet, list_set, open_set, require_folder

__all__ = [
    "DistilledSet",
    "ListedSet",
    "RunSource",
    "arms_of",
    "channels_of",
    "list_set",
    "open_set",
    "require_folder",
    "set_name",
]
