"""Data sets of the Hugging Face hub, ``hf:ORG/NAME[@REVISION]``, in whichever layout their files are.

Only what lies in the cache of huggingface_hub is read (runtime/hub.py).
"""

from __future__ import annotations

from ...runtime.hub import PREFIX, HubSet
from .base import SOURCES, Layout, Split, SplitImages, register_source


class HubLayout(Layout):
    """The folder of a data set in the cache, which another layout opens."""

    priority = 0

    def open(self, root: str, split: Split) -> SplitImages:
        """One split of the data set ORG/NAME[@REVISION].

        Raises:
            InputError: it is not in the cache, or its files have no layout that is known.
        """
        folder = str(HubSet.of(f"{PREFIX}{root}").folder())
        layout = next(layout for layout in SOURCES.layouts() if layout.recognizes(folder))
        return layout.open(folder, split)


register_source("hf", HubLayout())
