"""Metrics compare with all real images, also where the bank keeps the embeddings of only some."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_several_students import write

import fastdd
from fastdd.bank import Bank
from fastdd.errors import InputError
from fastdd.runs.experiment import check

SMALL = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
arms: {deda: {method: deda, steps: 2}}
student: {network: convnet1, labels: hard, steps: 4, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}
metrics: {full_set: false}
"""


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 2])
def test_metrics_compare_with_all_real_images_whatever_the_bank_keeps(kept: int, tmp_path: Path) -> None:
    recipe = write(tmp_path, SMALL)
    whole = fastdd.run(recipe, tmp_path / "whole")
    given = f"teacher.weights={whole.folder.teacher()}"
    part = fastdd.run(recipe, tmp_path / "part", [given, f"bank.embeddings={kept}"])
    assert not Bank(part.folder.bank()).has_all_embeddings
    theirs, ours = load_file(whole.folder.embeddings), load_file(part.folder.embeddings)
    assert torch.equal(ours["real_labels"], theirs["real_labels"])
    assert torch.allclose(ours["real"].float(), theirs["real"].float(), atol=2e-3)
    for arm, result in whole.metrics.arms.items():
        assert part.metrics.arms[arm].coverage == pytest.approx(result.coverage, abs=0.01)
    assert whole.metrics.arms["random"].coverage < 0.5  # the control's two images a class do not cover all


def test_a_number_of_real_embeddings_that_the_bank_will_not_hold_is_refused(tmp_path: Path) -> None:
    recipe = write(tmp_path, SMALL.replace("steps: 2}", "steps: 2, terms: {dire: {real_per_class: 5}}}"))
    with pytest.raises(InputError, match=r"5 embeddings .* each class, but bank\.embeddings is 2; set it"):
        check(fastdd.resolve(recipe, ["bank.embeddings=2"]), tmp_path / "out")
    check(fastdd.resolve(recipe, ["bank.embeddings=5"]), tmp_path / "out")
