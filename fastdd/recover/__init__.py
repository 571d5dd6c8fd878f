"""Recover: optimize synthetic images through the frozen teacher.

init/initial.py says what images start from, plan.py cuts the work into units, steps.py says which images and teachers take
part in a step, objective.py and the terms what is minimized, loop.py minimizes it, stage.py does the units that a run
folder lacks, distilled/images.py writes them.
"""

from ..distilled.images import load_images, load_recovered, save_images
from .init.initial import Chosen, decoder, repeated
from .plan import Batch, Unit, all_units, plan, real_slots, seen_slots
from .stage import Recovery, recover, unfinished, units_of
from .steps import teachers_used
from .terms.base import Context, Needs, Term, needs, register_term, tapped

__all__ = [
    "Batch",
    "Chosen",
    "Context",
    "Needs",
    "Recovery",
    "Term",
    "Unit",
    "all_units",
    "decoder",
    "load_images",
    "load_recovered",
    "needs",
    "plan",
    "real_slots",
    "recover",
    "register_term",
    "repeated",
    "save_images",
    "seen_slots",
    "tapped",
    "teachers_used",
    "unfinished",
    "units_of",
]
