"""Distilled image sets, whoever made them: opened in any layout, and written out for other libraries.

    distilled = open_set("runs/digits", arm="deda")      # or a released folder, or any ImageFolder
    labels = distilled.classes_of(real.classes)          # int64 [N], in the real set's order
    export(distilled, "hf", "digits-deda")               # with a card, for datasets.load_dataset

layouts.py lists files and says which class each has, runs.py finds the set of a run and what its folder says of it,
sets.py decodes. exports.py writes: content.py is what goes into every form, forms.py and tables.py the forms, card.py
the dataset card.
"""

from .exports import FORMS, export
from .runs import channels_of
from .sets import DistilledSet, open_set

__all__ = ["FORMS", "DistilledSet", "channels_of", "export", "open_set"]
