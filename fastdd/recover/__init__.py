"""Recover: optimise synthetic images through the frozen teacher.

initial.py says what images start from, plan.py cuts the work into units, augment.py draws what happens to the images at
each step, objective.py and the terms say what is minimised, loop.py minimises it, stage.py does the units that a run
folder lacks, images.py writes them.
"""

from .images import load_images, load_recovered, save_images
from .initial import Chosen, decoder, repeated
from .offset import all_units, real_slots, seen_slots
from .plan import Batch, Unit, plan
from .stage import Recovery, recover, unfinished, unit_path, units_of
from .terms import banked_layers, tapped, tapped_layers
from .voters import speakers

__all__ = [
    "Batch", "Chosen", "Recovery", "Unit", "all_units", "banked_layers", "decoder", "load_images", "load_recovered",
    "plan", "real_slots", "recover", "repeated", "save_images", "seen_slots", "speakers", "tapped", "tapped_layers",
    "unfinished", "unit_path", "units_of",
]  # fmt: skip
