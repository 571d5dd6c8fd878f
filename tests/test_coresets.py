"""Coresets: scores of images by their definitions, the choices by them, and where the scores come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastdd
from fastdd import cli
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.recover.init.selection import budgets, ccs, grand, strata
from fastdd.runs.experiment import check
from fastdd.runs.pipeline import begin
from fastdd.runs.run import Run
from fastdd.runs.scoring import score
from fastdd.teachers import ImageScores, read_scores, save_scores
from fastdd.teachers.image_scores import EARLY

CPU = torch.device("cpu")
TRUTH = torch.tensor([0, 1, 2, 0])
EVERY = torch.arange(4)


def wave(*shape: int, a: float) -> Tensor:
    """sin(a i), i the place of each number, float64."""
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64)).view(shape)


def close(found: Tensor, *expected: float) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=0, atol=2e-7)


# -- golden values -----------------------------------------------------------------------------------


def test_errors_margins_and_gradients_have_the_golden_values() -> None:
    logits, scores = wave(4, 3, a=1.7), ImageScores(4, CPU)
    scores.add(0, logits, TRUTH, EVERY)
    close(scores.error(), 0.9981545, 0.8119971, 0.3734990, 0.5715055)
    close(scores.margin(), -0.3793371, -0.1369681, 0.5364597, 0.2290090)
    hidden = wave(4, 2, a=0.9)
    norms = [grand(hidden[i : i + 1], logits[i : i + 1], int(TRUTH[i])) for i in range(4)]
    close(torch.cat(norms), 1.2679317, 1.1853580, 0.5478340, 0.7223269)


def test_forgetting_counts_events_and_what_was_never_learned_is_infinite() -> None:
    scores, right = ImageScores(4, CPU), ("010110", "111111", "000000", "100101")
    for epoch in range(6):
        hits = torch.tensor([text[epoch] == "1" for text in right])
        own = torch.zeros(4, 3)
        own[EVERY, torch.where(hits, TRUTH, (TRUTH + 1) % 3)] = 1.0
        scores.add(epoch, own, TRUTH, EVERY)
    assert scores.forgetting().tolist() == [2, 0, math.inf, 2]


def test_errors_are_of_the_first_epochs_and_means_of_those_that_showed_an_image() -> None:
    scores, logits = ImageScores(2, CPU), torch.tensor([[3.0, 0.0]])
    for epoch in range(EARLY + 5):
        scores.add(epoch, logits if epoch < EARLY else -logits, torch.tensor([0]), torch.tensor([1]))
    once = ImageScores(2, CPU)
    once.add(0, logits, torch.tensor([0]), torch.tensor([1]))
    assert scores.error()[1] == pytest.approx(float(once.error()[1]), rel=1e-6)
    assert scores.error()[0] == 0
    assert abs(float(scores.margin()[1])) < float(once.margin()[1])


def test_strata_and_budgets_of_ccs_have_the_golden_values() -> None:
    assert budgets([0, 3, 40, 7, 0, 50], 30) == [0, 3, 10, 7, 0, 10]
    assert budgets([0, 3, 40, 7, 0, 50], 5) == [0, 1, 1, 1, 0, 2]
    assert strata(torch.tensor([0, 0.1, 0.1, 0.5, 0.9, 1]), 5).tolist() == [0, 0, 0, 2, 4, 4]
    assert strata(torch.tensor([-2.0, -1.0, -0.5]), 5).tolist() == [0, 3, 4]  # released code leaves out -0.5
    assert strata(torch.ones(3), 5).tolist() == [0, 0, 0]


def test_ccs_leaves_the_hardest_out_unless_it_needs_them() -> None:
    margin = wave(20, a=0.7)
    hard = set(margin.sort().indices[:6].tolist())
    chosen = ccs(margin, 5, seed=0).tolist()
    assert len(set(chosen)) == 5
    assert not hard & set(chosen)
    assert sorted(ccs(margin, 20, seed=0).tolist()) == list(range(20))
    assert len(set(ccs(margin, 16, seed=0).tolist())) == 16


# -- where scores come from --------------------------------------------------------------------------


@pytest.fixture
def recipe(pets: Path, pets_recipe: Callable[[Path], Path]) -> str:
    """The pets with an arm of each rule that needs scores, and one that needs embeddings."""
    file = pets_recipe(pets)
    text = file.read_text()
    rules = ("el2n", "forgetting", "aum", "ccs", "grand")
    arms = ", ".join(f"{rule}: {{init: {rule}, steps: 0}}" for rule in rules)
    before, after = text[: text.index("arms:")], text[text.index("\nstudent:") :]
    file.write_text(f"{before}arms: {{{arms}}}{after}")
    return str(file)


def test_files_that_no_arm_reads_are_told(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["teacher.scores=scores.safetensors", "experts.path=runs/mtt"]
    check(resolve(recipe, overrides, arms=["grand"]).recipe, tmp_path / "out")
    assert capsys.readouterr().err == (
        "note: experts.path runs/mtt is not read, since no arm follows experts (mtt and tesla do)\n"
        "note: teacher.scores scores.safetensors is not read, since no arm's init ranks real images by "
        "scores (el2n, forgetting, aum, ccs)\n"
    )


def test_squeeze_notes_the_scores_that_arms_rank_by(recipe: str, tmp_path: Path) -> None:
    out, overrides = tmp_path / "out", ["teacher.epochs=3", "teacher.batch=8"]
    fastdd.run(recipe, out, overrides, until="recover")
    resolved = resolve(recipe, overrides).recipe
    experiment = check(resolved, out)
    run = Run(experiment, begin(experiment, out))
    images = experiment.real.images(experiment.real.train)[0]
    assert run.scores.fields["shown"].tolist() == [3] * 16
    for arm, hardness in (
        ("el2n", run.scores.error()),
        ("aum", -run.scores.margin()),
        ("forgetting", run.scores.forgetting()),
    ):
        for c in range(2):
            order = hardness[8 * c : 8 * c + 8].sort(descending=True, stable=True).indices[:3] + 8 * c
            assert torch.equal(run.distilled(arm)[0][3 * c : 3 * c + 3], images[order]), arm
    assert len(run.distilled("ccs")[0]) == len(run.distilled("grand")[0]) == 6
    known = read_scores(out / "scores.safetensors", 16, experiment.real.train.fingerprint, "x")
    save_scores(tmp_path / "again.safetensors", known, experiment.real.train.fingerprint)
    assert (tmp_path / "again.safetensors").read_bytes() == (out / "scores.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["missing", "a folder", "damaged"])
def test_scores_that_were_given_and_cannot_be_read_are_made_and_not_waited_for(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "scores.safetensors"
    if kind == "a folder":
        path.mkdir()
    elif kind == "damaged":
        path.write_bytes(b"half")
    with pytest.raises(InputError) as caught:
        read_scores(path, 16, "d" * 64, "make them with `fastdd score pets`")
    said = {"missing": "does not exist", "a folder": "is no file", "damaged": "is damaged ("}[kind]
    assert str(caught.value).startswith(f"{path} {said}")
    assert str(caught.value).endswith("; make them with `fastdd score pets`")


def test_a_given_teacher_needs_scores_which_fastdd_score_makes(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fastdd.run(recipe, tmp_path / "first", ["teacher.epochs=1"], until="squeeze")
    given = f"teacher.weights={tmp_path / 'first' / 'teacher.safetensors'}"
    with pytest.raises(InputError, match=r"but the teacher is given; make scores with `fastdd score pets`"):
        fastdd.run(recipe, tmp_path / "out", [given], until="recover")
    file = tmp_path / "scores.safetensors"
    assert cli.main(["score", recipe, given, "--epochs", "2", "--out", str(file)]) == 0
    assert f"scores of 16 images: {file}" in capsys.readouterr().out
    result = fastdd.run(recipe, tmp_path / "out", [given, f"teacher.scores={file}"], until="recover")
    assert set(result.folder.arms()) == {"random", "el2n", "forgetting", "aum", "ccs", "grand"}
    with pytest.raises(InputError, match="it is of other training images"):
        fastdd.run(recipe, tmp_path / "b", [given, f"teacher.scores={file}", "data.validation=0.25"])
    with pytest.raises(InputError, match="--epochs is 0, expected 1 or more"):
        score(resolve(recipe).recipe, file, 0)
