"""Whether a CUDA graph could hold the steps of test_capture.py: they run on tensors without values.

python tests/captured_on_fake_gpu.py FOLDER        prints JSON: case -> what went wrong, or replays
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from graphs import Watched
from test_capture import CASES, ON_A_FAKE_GPU, STEPS, recovery_of, unit_of
from tiny_recovery import CLASSES, SHAPE, Lab, Silent, make_lab
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from fastdd.cost.counting import Counts
from fastdd.cost.fake_device import fake_device
from fastdd.distilled import formation
from fastdd.models.build import build
from fastdd.recover.capture import Work
from fastdd.recover.terms.base import Values
from fastdd.teachers import Teacher


class Shapes:
    """A bank whose tensors have no values."""

    def __init__(self, bank: Any) -> None:
        self.bank = bank

    def __len__(self) -> int:
        return len(self.bank)

    def __getattr__(self, name: str) -> Any:
        with _disable_current_modes():
            value = getattr(self.bank, name)
        if not callable(value):
            return without_values(value)

        def call(*args: Any) -> Any:
            with _disable_current_modes():
                found = value(*args)
            return without_values(found)

        return call


def without_values(tree: Any) -> Any:
    return tree_map(lambda x: torch.empty(x.shape, dtype=x.dtype) if isinstance(x, Tensor) else x, tree)


class WithoutWaits(Watched):
    """Also holds what runs inside operators of fastdd's own to never waiting."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def capture(self, work: Work) -> tuple[Values, Callable[[], None]]:
        before = self.counts.waits
        found = super().capture(work)
        assert self.counts.waits == before, "the host waits for the GPU inside an operator"
        return found


def replays(lab: Lab, case: str) -> int:
    """How many steps of a case were replayed."""
    with (
        fake_device("cuda") as counts,
        mock.patch.object(formation, "YCBCR", without_values(formation.YCBCR)),
    ):
        with torch.device("cuda"):
            network = build("resnet8", CLASSES).eval().requires_grad_(False)
        own = Lab(
            Teacher(network, lab.teacher.card),
            cast(Any, Shapes(lab.bank)),
            lambda rows: torch.empty(len(rows), *SHAPE, dtype=torch.uint8),
        )
        chosen = CASES[case]()
        if chosen.steps == STEPS:
            chosen = chosen.model_copy(update={"steps": 3})
        recovery, capturer = recovery_of(own, chosen), WithoutWaits(counts)
        recovery.capturer = lambda: capturer
        recovery.optimize(unit_of(recovery), Silent())  # type: ignore[arg-type]
        return capturer.replays


def main(folder: str) -> None:
    library = torch.library.Library("aten", "IMPL")  # torch has no form without values of these two
    for name in ("_fused_adam_.tensor_lr", "_fused_sgd_.tensor_lr"):
        library.impl(name, lambda *_, **__: None, "Meta")
    lab, found = make_lab(Path(folder)), dict[str, int | str]()
    for case in ON_A_FAKE_GPU:
        try:
            found[case] = replays(lab, case)
        except Exception:
            found[case] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
