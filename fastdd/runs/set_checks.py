"""What is wrong with the sets of a judgement: leaks, repetitions and claims, beside their accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..config import Given
from ..distilled import ListedSet, list_set
from ..errors import InputError
from ..evaluate import embed
from ..evaluate.validity import check_images, claim_findings, near_finding, sample_rows
from ..run_folder import Metrics
from ..run_folder.results import Finding
from .run import Run


def set_findings(
    run: Run, embeddings: Mapping[str, Tensor], earlier: Metrics | None
) -> dict[str, tuple[Finding, ...]]:
    """The findings of the control and of every set of a judgement, by arm; none of another run.

    The images are those that the run folder took, which students learn; claims are those of the set's own
    folder. Images are compared with the test images, and with the validation images where there are some, in
    pixels and in the teacher's embeddings.

    Args:
        embeddings: the teacher's embeddings [N, D] of the training images, ``real``, and of each arm's.
        earlier: results of the same run, whose findings of the same images are kept; None: there are none.

    Raises:
        InputError: an image cannot be read.
    """
    experiment = run.experiment
    if not experiment.recipe.is_judgement:
        return {}
    kept = {} if earlier is None else earlier.arms
    found: dict[str, tuple[Finding, ...]] = {}
    left: dict[str, ListedSet] = {}
    channels = 1 if experiment.recipe.data.channels == 1 else 3
    for arm in experiment.arms:
        known = kept.get(arm)
        is_same = known is not None and known.images == run.image_fingerprints[arm]
        if known is not None and known.findings is not None and is_same:
            found[arm] = known.findings
            continue
        left[arm] = list_set(run.folder.path, arm, channels=channels)
    if left:
        held_out = [split for split in experiment.real.splits if split is not experiment.real.train]
        parts = list[Tensor]()
        of_images = check_images(
            left,
            held_out,
            experiment.real.train,
            resize=experiment.recipe.data.resize,
            device=experiment.device,
            saw=lambda images: parts.append(embed(run.teacher, images.to(experiment.device)).half().cpu()),
        )
        tested, train = torch.cat(parts), embeddings["real"]
        train = train[list(sample_rows(len(train), len(tested)))]
        for arm, findings in of_images.items():
            given = experiment.arms[arm].given
            claims = [] if given is None else _claims(run, given, channels)
            leaks = any(each.kind == "leak" for each in findings)
            near = [] if leaks else near_finding(embeddings[arm], tested, train)
            found[arm] = (*findings, *near, *claims)
    return {arm: found[arm] for arm in experiment.arms}


def _claims(run: Run, given: Given, channels: int) -> list[Finding]:
    """What the folder that a set came from claims, where it is still there."""
    try:
        listed = list_set(Path(given.path), given.arm, channels=channels)
    except InputError:
        return [Finding(kind="note", text=f"{given.path} is gone, so its claims were not looked at")]
    return claim_findings(listed, run.experiment.classes)
