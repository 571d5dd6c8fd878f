"""Networks: ``build.build`` makes one by name, ``outline.outline`` looks whether it takes a run's images.

A file of this folder registers the networks that it defines (registry.py); doors.py leads to networks of
timm, of torchvision and of the user. Nothing here imports
teachers, students or data.
"""
