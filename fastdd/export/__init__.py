"""Distilled sets written out for other libraries, one form a file.

export(distilled, "hf", "digits-deda")    # with a card, for datasets.load_dataset
"""

from .forms import FORMS, Form, export, register_export

__all__ = ["FORMS", "Form", "export", "register_export"]
