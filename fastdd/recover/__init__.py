"""Recover: optimize synthetic images through the frozen teacher.

plan.py             cuts the work into units
init/initial.py     chooses what images start from
steps.py            says which images and which teachers take part in a step
stages.py           divides the steps into stages, at whose start images are resized or blended with real ones
trial.py            tries the terms of the user's own once, before any arm is recovered
objective.py        is what a step minimizes: the terms (terms/) of augmented images
matching/           is the other thing that a step can minimize: the matching of synthetic and real images
                    with terms, if any, added to it (matching/added.py)
loop.py             minimizes them
capture.py          records its steps as CUDA graphs and replays them
checkpoint.py       keeps the state inside a unit that holds all images of a method
stage.py            recovers the units that a run folder lacks
saving.py           writes them, on a GPU while the next one is optimized; distilled/images.py knows the files

plan.py needs no torch. The other names are imported when they are first asked for, so that ``fastdd status``
counts units without torch, whose import takes longer than the rest of its work.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .plan import ClassSlots, Rows, Unit, all_units, plan, real_slots, seen_slots

if TYPE_CHECKING:
    from ..distilled.images import load_images, load_recovered, save_images
    from .capture import check_capture, forbids_capture
    from .init.initial import Chosen, decoder, original_images, repeated
    from .init.pools import CandidatePool, FirstImages, Pool, RealPool
    from .matching.networks import matched_layers
    from .matching.real import RealImages
    from .matching.signal_of import match_signal
    from .matching.trajectory import TrajectorySignal
    from .objective import Signal
    from .stage import Recovery, recover, unfinished, units_of
    from .stages import NearestImages, check_stages, multiply_adds, share_of_work
    from .steps import check_ensemble
    from .terms.base import Context, Needs, Term, naming, needs, needs_by_key, register_term, remarks, tapped
    from .trial import own_terms

_MODULES = {
    "..distilled.images": ("load_images", "load_recovered", "save_images"),
    ".capture": ("check_capture", "forbids_capture"),
    ".init.initial": ("Chosen", "decoder", "original_images", "repeated"),
    ".init.pools": ("CandidatePool", "FirstImages", "Pool", "RealPool"),
    ".matching.networks": ("matched_layers",),
    ".matching.real": ("RealImages",),
    ".matching.signal_of": ("match_signal",),
    ".matching.trajectory": ("TrajectorySignal",),
    ".objective": ("Signal",),
    ".stage": ("Recovery", "recover", "unfinished", "units_of"),
    ".stages": ("NearestImages", "check_stages", "multiply_adds", "share_of_work"),
    ".steps": ("check_ensemble",),
    ".terms.base": (
        "Context",
        "Needs",
        "Term",
        "naming",
        "needs",
        "needs_by_key",
        "register_term",
        "remarks",
        "tapped",
    ),
    ".trial": ("own_terms",),
}
"""where each name is that is imported when it is asked for"""

__all__ = [
    "CandidatePool",
    "Chosen",
    "ClassSlots",
    "Context",
    "FirstImages",
    "NearestImages",
    "Needs",
    "Pool",
    "RealImages",
    "RealPool",
    "Recovery",
    "Rows",
    "Signal",
    "Term",
    "TrajectorySignal",
    "Unit",
    "all_units",
    "check_capture",
    "check_ensemble",
    "check_stages",
    "decoder",
    "forbids_capture",
    "load_images",
    "load_recovered",
    "match_signal",
    "matched_layers",
    "multiply_adds",
    "naming",
    "needs",
    "needs_by_key",
    "original_images",
    "own_terms",
    "plan",
    "real_slots",
    "recover",
    "register_term",
    "remarks",
    "repeated",
    "save_images",
    "seen_slots",
    "share_of_work",
    "tapped",
    "unfinished",
    "units_of",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
