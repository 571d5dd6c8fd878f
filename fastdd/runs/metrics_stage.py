"""The results of a run: accuracies of the students and diversity of the images, all in metrics.json."""

from __future__ import annotations

from dataclasses import asdict

import torch
from safetensors.torch import load_file
from torch import Tensor

from fastdd_kernels import knn_radii

from .. import evaluate
from ..run_folder import ArmResult, Metrics, write
from ..run_folder.results import DataResult, ProtocolResult, TeacherResult
from ..runtime.files import write_tensors
from ..runtime.progress import progress
from .label_stage import described_protocol
from .run import Run
from .student_stage import accuracies, full_set_result, further_accuracies


def write_metrics(run: Run) -> None:
    """Measure what the run folder lacks: embeddings.safetensors, metrics.json."""
    if not run.folder.metrics.is_file():
        write(run.folder.metrics, _measure(run))


def _measure(run: Run) -> Metrics:
    experiment, recipe, card = run.experiment, run.experiment.recipe, run.teacher.card
    arms = _arms(run)
    left_out = run.session.manifest.full_set_left_out
    metrics = Metrics(
        recipe=recipe.name,
        description=recipe.description,
        classes=card.classes,
        ipc=recipe.ipc,
        seed=recipe.seed,
        data=DataResult(
            root=recipe.data.root, train=len(experiment.real.train), test=len(experiment.real.test_set)
        ),
        teacher=TeacherResult(network=card.network, accuracy=card.accuracy),
        protocol=_protocol(run),
        k=recipe.metrics.nearest_k,
        arms=arms,
        full_set=full_set_result(run),
    )
    further: dict[str, object] = {}  # keys that are absent where they say nothing
    if left_out is not None:
        further["full_set_left_out"] = left_out
    if recipe.students:
        further["students"] = {name: _protocol(run, name) for name in recipe.students}
    return metrics.model_copy(update=further)


def _protocol(run: Run, student: str = "") -> ProtocolResult:
    text, digest = described_protocol(run, student)
    return ProtocolResult(text=text, hash=digest, seeds=run.experiment.students[student].seeds)


def _arms(run: Run) -> dict[str, ArmResult]:
    """The results of every arm, by name."""
    embeddings, k = _embeddings(run), run.experiment.recipe.metrics.nearest_k
    arms = {}
    with run.session.stage("metrics") as work:
        real = embeddings["real"].float()
        radii = knn_radii(real, k)
        for arm, method in run.experiment.arms.items():
            seen = run.experiment.seen(arm)
            truth = torch.arange(len(run.experiment.classes)).repeat_interleave(seen)
            diversity = evaluate.diversity(real, radii, embeddings[arm].float(), truth, k=k)
            own = {"title": method.title, "seen": seen, **accuracies(run, arm), **asdict(diversity)}
            arms[arm] = ArmResult.model_validate(own | further_accuracies(run, arm))
        work.images = len(real)
    return arms


def _embeddings(run: Run) -> dict[str, Tensor]:
    """Teacher embeddings [N, D] float16 of the real training images (``real``) and of every arm's images."""
    path = run.folder.embeddings
    if not path.is_file():
        real, labels = _real_embeddings(run)
        arms = {arm: evaluate.embed(run.teacher, run.distilled(arm)[0]).half() for arm in run.experiment.arms}
        write_tensors(path, {"real": real, "real_labels": labels, **arms})
    return load_file(path)


def _real_embeddings(run: Run) -> tuple[Tensor, Tensor]:
    """Teacher embeddings of all real training images, float16 [N, D], and their classes, int64 [N].

    The bank holds them, unless it keeps a number of each class (``bank.embeddings``): what a set covers of a
    few real images says nothing of all, so the teacher then sees all of them again.
    """
    bank, train = run.bank, run.experiment.real.train
    if bank.has_all_embeddings:
        rows = [bank.embeddings(c).half() for c in range(len(bank))]
        return torch.cat(rows), torch.arange(len(bank)).repeat_interleave(torch.tensor(bank.counts))
    rows, labels = [], []
    with progress("embed train", len(train)) as bar:
        for batch in run.experiment.real.stream().stream(range(len(train))):
            if len(batch.images):
                rows.append(evaluate.embed(run.teacher, batch.images).half().cpu())
                labels.append(batch.labels.cpu())
            bar.advance(len(batch.images) + len(batch.skipped))
    return torch.cat(rows), torch.cat(labels)
