"""Methods: one file each, which only declares initial images, batches, augmentation, terms and schedule.

Each file registers its own declaration (declaration.py), so a new method is one new file.
"""

from .declaration import ADDITIONS, METHODS, Addition, Declaration, Patch, register_addition, register_method

__all__ = ["ADDITIONS", "METHODS", "Addition", "Declaration", "Patch", "register_addition", "register_method"]
