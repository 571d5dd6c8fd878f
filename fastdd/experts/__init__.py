"""Experts: networks trained on the real images, with their weights after every epoch.

MTT and TESLA start a student from an expert's weights, and ask the distilled images to take it where the
expert was some epochs later. store.py says what determines the experts of a run, keeps them on disk and reads
single epochs, training.py makes what a folder lacks. Arms and stages are the business of ``fastdd.runs``.
"""

from .store import ExpertBuffer, ExpertPlan, epochs_to_keep, experts_together, plan_file, reach_of
from .training import TEST_IMAGES, ExpertData, Training, batch_draws, build_experts

__all__ = [
    "TEST_IMAGES",
    "ExpertBuffer",
    "ExpertData",
    "ExpertPlan",
    "Training",
    "batch_draws",
    "build_experts",
    "epochs_to_keep",
    "experts_together",
    "plan_file",
    "reach_of",
]
