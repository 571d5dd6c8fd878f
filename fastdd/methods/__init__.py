"""Methods: one file each, which only declares initial images, batches, augmentation, terms and schedule.

Each file registers its own declaration (declaration.py), so a new method is one new file. ``values`` hold where nothing
else is said, ``on`` says what differs by data set, ``at`` what the number of images a class changes, and ``scripts``
names the data sets for which the authors released settings.
"""

from .declaration import ADDITIONS, METHODS, Addition, Declaration, Patch, register_addition, register_method

__all__ = ["ADDITIONS", "METHODS", "Addition", "Declaration", "Patch", "register_addition", "register_method"]
