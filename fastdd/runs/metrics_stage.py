"""The results of a run, metrics.json: accuracies of the students and diversity of the images, on the
teacher's embeddings and, with ``metrics.features``, in the features of another network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from fastdd_kernels import knn_radii

from .. import evaluate
from ..config import CONTROL
from ..config.naming import arm_titles
from ..config.published import OWN
from ..config.student import regime_of
from ..errors import InputError
from ..evaluate.features import clip_features
from ..run_folder import ArmResult, Metrics, TensorFile, read
from ..run_folder.comparison import difference
from ..run_folder.manifest import require_unedited_results
from ..run_folder.manifest import write_metrics as write_results
from ..run_folder.published import Measured, PublishedResult, compare
from ..run_folder.results import DataResult, FeatureDiversity, Finding, ProtocolResult, TeacherResult
from ..runtime.files import write_tensors
from ..runtime.progress import progress
from .label_stage import described_protocol, shipped
from .robust_scores import with_robust_scores
from .run import Run
from .set_checks import set_findings
from .student_stage import arm_accuracies, full_set_result, further_accuracies

IMAGES = "images"
"""key of the fingerprints in the metadata of embeddings.safetensors"""


def write_metrics(run: Run) -> None:
    """Measure what the run folder lacks: embeddings.safetensors, metrics.json.

    Both are measured again where images, or what students learned, have changed since. Numbers of a paper
    that have changed are set beside the results anew.
    """
    file = run.folder.metrics
    metrics = read(file, Metrics) if file.is_file() else None
    if metrics is not None and run.experiment.recipe.is_judgement:
        require_unedited_results(file)
    if metrics is None or not _is_current(run, metrics):
        write_results(file, _measure(run, metrics))
        return
    if not run.folder.embeddings.is_file():  # the page shows them
        _embeddings(run)
    published = _published(run, metrics.arms)
    if metrics.published != published.get("published"):
        kept = {name: getattr(metrics, name) for name in metrics.model_fields_set - {"published"}}
        write_results(file, Metrics.model_validate(kept | published))


def _published(run: Run, arms: Mapping[str, ArmResult]) -> dict[str, PublishedResult]:
    """The key ``published`` of the results; empty where the recipe has no numbers of a paper."""
    published = run.experiment.recipe.published
    return (
        {} if published is None else {"published": compare(published, _measured(run, arms), _networks(run))}
    )


def _is_current(run: Run, metrics: Metrics) -> bool:
    """Whether results are of the present images and students; those of earlier versions do not say so."""
    recipe = run.experiment.recipe
    if metrics.arms.keys() != run.experiment.arms.keys() or metrics.students.keys() != recipe.students.keys():
        return False  # sets were added
    if recipe.is_judgement and any(each.findings is None for each in metrics.arms.values()):
        return False  # of an earlier version
    for arm, result in metrics.arms.items():
        learned = {name: arm_accuracies(run, arm, name).get("learned_from") for name in result.kinds}
        if result.images != run.image_fingerprints.get(arm):
            return False
        if any(each.learned_from != learned[name] for name, each in result.kinds.items()):
            return False
    return True


def _measure(run: Run, earlier: Metrics | None) -> Metrics:
    """All that is measured of a run.

    Args:
        earlier: its results before sets were added or images changed; None: there are none.
    """
    recipe, card = run.experiment.recipe, run.teacher.card
    embeddings = _embeddings(run)
    arms = _arms(run, embeddings, set_findings(run, embeddings, earlier))
    left_out = run.session.manifest.full_set_left_out
    metrics = Metrics(
        recipe=recipe.name,
        description=recipe.description,
        classes=card.classes,
        ipc=recipe.ipc,
        seed=recipe.seed,
        data=_data(run),
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
    further |= _published(run, arms)
    return with_robust_scores(metrics.model_copy(update=further), run.experiment.students)


def _data(run: Run) -> DataResult:
    real = run.experiment.real
    data = DataResult(root=real.data.root, train=len(real.train), test=len(real.test_set))
    if real.validation_set is None:
        return data
    seen_by = tuple(
        each.key
        for number, each in run.experiment.working_teachers.items()
        if each.may_know_validation(run.teachers[number].card)
    )
    split = {"validation": len(real.validation_set), "evaluated_on": real.evaluated_on}
    return data.model_copy(update=split | ({"seen_by": seen_by} if seen_by else {}))


def _measured(run: Run, arms: Mapping[str, ArmResult]) -> dict[str, Measured]:
    """What a paper's numbers are compared with, by arm."""
    students, stages = run.experiment.students, run.session.manifest.stages
    found = {}
    for arm, result in arms.items():
        values = {"coverage": result.coverage, "cosine": result.cosine, "vendi": result.vendi}
        if (work := stages.get(f"recover {arm}")) is not None:
            values["seconds"] = work.seconds
        accuracies = {
            name or OWN: each.best if students[name].reported == "best" else each.last
            for name, each in result.kinds.items()
        }
        features = {} if result.features is None else result.features.model_dump()
        found[arm] = Measured(accuracies, values, features)
    return found


def _networks(run: Run) -> dict[str, str]:
    """The network of each kind of students and the accuracy that counts, such as ``resnet18_small, best``, by
    the name that the kind has among a paper's numbers."""
    students = run.experiment.students
    return {name or OWN: f"{config.network}, {config.reported}" for name, config in students.items()}


def _protocol(run: Run, student: str = "") -> ProtocolResult:
    text, digest = described_protocol(run, student)
    config = run.experiment.students[student]
    seeds = config.seeds if run.experiment.recipe.metrics.students else 0
    return ProtocolResult(
        text=text, hash=digest, seeds=seeds, network=config.network, regime=regime_of(config)
    )


def _arms(
    run: Run, embeddings: Mapping[str, Tensor], findings: Mapping[str, tuple[Finding, ...]]
) -> dict[str, ArmResult]:
    """The results of every arm, by name, with what was found wrong with it where that was looked at."""
    k = run.experiment.recipe.metrics.nearest_k
    arms, titles = {}, arm_titles(run.experiment.arms)
    with run.session.stage("metrics") as work:
        real = embeddings["real"].float()
        radii, others = knn_radii(real, k), _feature_diversity(run)
        for arm in run.experiment.arms:
            seen = run.experiment.seen(arm)
            truth = torch.arange(len(run.experiment.classes)).repeat_interleave(seen)
            diversity = evaluate.diversity(real, radii, embeddings[arm].float(), truth, k=k)
            own = {"title": titles[arm], "seen": seen, "images": run.image_fingerprints[arm]}
            own |= {**arm_accuracies(run, arm), **asdict(diversity), **further_accuracies(run, arm)}
            own |= {"findings": findings[arm]} if arm in findings else {}
            own |= {"features": others[arm]} if arm in others else {}
            own |= {"reduced": run.reduced[arm]} if arm in run.reduced else {}
            own |= {"shipped": shipped(run, arm), "multiply_adds": run.experiment.multiply_adds(arm)}
            arms[arm] = ArmResult.model_validate(own)
        work.images = len(real)
    return {arm: _with_differences(arm, result, arms[CONTROL]) for arm, result in arms.items()}


def _with_differences(arm: str, result: ArmResult, control: ArmResult) -> ArmResult:
    """The result of an arm, with how far its students are from the control's; the control as it is."""
    if arm == CONTROL:
        return result
    own: dict[str, object] = {}
    if (found := difference(result.last, control.last)) is not None:
        own["above_control"] = found
    further = {}
    for name, students in result.students.items():
        reference = control.students.get(name)
        found = None if reference is None else difference(students.last, reference.last)
        further[name] = students if found is None else students.model_copy(update={"above_control": found})
    return result.model_copy(update=own | ({"students": further} if further else {}))


def _embeddings(run: Run) -> dict[str, Tensor]:
    """Teacher embeddings [N, D] float16 of the real training images (``real``) and of every arm's images.

    The file's metadata note the fingerprints of the arms' images, and what is of other images is made again.

    Raises:
        InputError: the file is damaged, or an embedding is not finite.
    """
    path, images = run.folder.embeddings, run.image_fingerprints
    tensors, noted = _read_embeddings(path) if path.is_file() else ({}, {})
    if len(tensors.get("real", ())) != sum(run.bank.counts):
        tensors["real"], tensors["real_labels"] = _real_embeddings(run)
        noted = {}
    for arm in images:
        if arm not in tensors or noted.get(arm) != images[arm]:
            batches = run.batches(arm, evaluate.batch_of(*run.experiment.real.shape[1:]))
            parts = [evaluate.embed(run.teacher, images).half().cpu() for images in batches]
            tensors[arm] = torch.cat(parts)
    if noted != images:
        if bad := [name for name, rows in tensors.items() if not rows.isfinite().all()]:
            raise InputError(
                f"the teacher's embeddings of {bad[0]!r} hold NaN or values beyond float16; use another "
                "teacher and another folder, with --out"
            )
        write_tensors(path, tensors, {IMAGES: json.dumps(images)})
    return tensors


def _read_embeddings(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The embeddings of a file, and the fingerprints that it notes; none in files of earlier versions."""
    file = TensorFile(path)
    return file.tensors(), file.note(IMAGES, dict[str, str]) if IMAGES in file.metadata else {}


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


MADE_OF = "made of"
"""key of the metadata of features.safetensors: the network, and the fingerprints of the arms' images"""


def _feature_diversity(run: Run) -> dict[str, FeatureDiversity]:
    """The diversity of every arm, by name; nothing where the recipe names no features."""
    recipe = run.experiment.recipe
    if recipe.metrics.features is None:
        return {}
    features, k = _features(run, recipe.metrics.features), recipe.metrics.nearest_k
    real = features["real"].float()
    radii, found = knn_radii(real, k), {}
    for arm in run.experiment.arms:
        labels = torch.arange(len(run.experiment.classes)).repeat_interleave(run.experiment.seen(arm))
        measured = evaluate.diversity(real, radii, features[arm].float(), labels, k=k)
        found[arm] = FeatureDiversity(
            coverage=measured.coverage, vendi=measured.vendi, cosine=measured.cosine
        )
    return found


def _features(run: Run, name: str) -> dict[str, Tensor]:
    """Features [N, D] float32 of the real training images (``real``) and of every arm's images; those of
    images that have changed since are made again."""
    extractor = clip_features("metrics.features", name, run.experiment.device)
    path, now = run.folder.features, {"features": extractor.text, **run.image_fingerprints}
    tensors: dict[str, Tensor] = {}
    then: dict[str, str] = {}
    if path.is_file():
        file = TensorFile(path)
        then = file.note(MADE_OF, dict[str, str])
        tensors = file.tensors() if then.get("features") == extractor.text else {}
    if "real" not in tensors:
        real, recipe = run.experiment.real, run.experiment.recipe
        rows, _ = extractor.of_dataset(
            real.train, real.shape[1:], resize=recipe.data.resize, on_error=recipe.data.on_error
        )
        tensors["real"] = rows.cpu()
    for arm, fingerprint in run.image_fingerprints.items():
        if arm not in tensors or then.get(arm) != fingerprint:
            batches = run.batches(arm, evaluate.batch_of(*run.experiment.real.shape[1:]))
            tensors[arm] = torch.cat([extractor(images).cpu() for images in batches])
    if then != now:
        write_tensors(path, tensors, {MADE_OF: json.dumps(now)})
    return tensors
