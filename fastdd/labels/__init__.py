"""Soft labels of a distilled set."""

from .stored import label, load_labels, save_labels

__all__ = ["label", "load_labels", "save_labels"]
