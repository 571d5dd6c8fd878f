"""Experts: networks trained on the real images, with their weights after every epoch.

MTT and TESLA start a student from an expert's weights, and ask the distilled images to take it where the
expert was some epochs later. plan.py says what determines the experts of a run, training.py trains some of
them together for an epoch, store.py keeps them on disk and reads single epochs, build.py makes what a folder
lacks. Arms and stages are the business of ``fastdd.runs``.
"""

from .build import build_experts
from .plan import ExpertPlan, epochs_to_keep
from .store import ExpertBuffer, plan_file
from .training import ExpertData, batch_draws

__all__ = [
    "ExpertBuffer",
    "ExpertData",
    "ExpertPlan",
    "batch_draws",
    "build_experts",
    "epochs_to_keep",
    "plan_file",
]
