"""Distilled sets, written out for other libraries.

export(distilled, "hf", "digits-deda")    # with a card, for datasets.load_dataset
"""

from .forms import FORMS, export

__all__ = ["FORMS", "export"]
