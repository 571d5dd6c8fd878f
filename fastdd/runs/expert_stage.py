"""The experts stage of a run: networks whose weights after every epoch are what trajectories are made of."""

from __future__ import annotations

from ..experts import ExpertData, build_experts, plan_file
from ..teachers import fingerprint
from .run import Run
from .run_experts import RunExperts


def train_experts(run: Run) -> None:
    """Train the experts that the run folder lacks, where an arm follows some and the recipe gives none.

    They are gigabytes: once the images of all arms that follow them are made, their folder may be deleted.

    Raises:
        InputError: an expert diverges, or given experts are not those that the run began with.
    """
    experts = run.experiment.experts
    if experts is None:
        return
    if experts.given is not None:
        run.session.check_fingerprint("experts", fingerprint(plan_file(experts.given)))
        return
    if all(run.folder.units(arm) for arm in experts.arms):  # such an arm is one unit
        return
    if len(run.folder.finished_experts()) == experts.plan.experts:
        return
    with run.session.stage("experts") as work:
        work.images = build_experts(
            run.folder.experts,
            experts.plan,
            network=experts.flat_network(trained=True),
            group=experts.group(),
            real=lambda: _real_images(run, experts),
        )


def _real_images(run: Run, experts: RunExperts) -> ExpertData:
    real, rows = run.experiment.real, experts.images()
    images, labels = run.training_images if rows is None else real.images(real.train, rows)
    return ExpertData(images, labels, *real.choice)
