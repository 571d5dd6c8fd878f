"""A compiled step: one graph for all units of a shape, and the numbers of the plain one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_recovery import CLASSES, IPC, METHODS, SEED, SHAPE, Lab, make_lab
from torch import Tensor, fx

from fastdd.config import Recover
from fastdd.recover import plan, units_of
from fastdd.recover import resources as compiling
from fastdd.recover.objective import draws
from fastdd.recover.resources import BYTES_WORTH_COMPILING, bytes_per_image
from fastdd.run_folder import RunFolder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


@pytest.mark.parametrize("name", ["sre2l+dire", "deda"])
def test_units_of_a_shape_share_one_graph(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[fx.GraphModule] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **how: compile(step, backend=backend, **how))
    method = METHODS[name]()
    units = plan(CLASSES, IPC, method.batch, 12)
    assert len({unit.shape for unit in units}) == 1
    assert len(units) > 1
    plain, compiled = (lab.recovery(method, Recover(compile=compiled)) for compiled in (False, True))
    for unit in units:
        drawn = draws(method.augment, unit, 2, size=SHAPE[1:], seed=SEED)
        assert drawn is not None
        for step in range(2):
            gradients: list[Tensor] = []
            for recovery in (plain, compiled):
                (objective,) = recovery.objective(unit.shape)
                images = (
                    recovery.initial(unit.rows).contiguous(memory_format=torch.channels_last).requires_grad_()
                )
                values = objective(images, drawn[step], objective.targets(unit))
                gradients += torch.autograd.grad(torch.stack(list(values.values())).sum(), images)
            # the same operators, of which some take another of their forms while compiling
            torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))
    assert len(graphs) == 1


def test_auto_compiles_an_arm_with_work_enough(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = Recover(compile="auto")

    def decided(steps: int, config: Recover = auto) -> bool | str:
        recovery = lab.recovery(METHODS["deda"]().model_copy(update={"steps": steps}), config)
        units_of("arm", recovery, RunFolder(tmp_path), num_classes=CLASSES, ipc=IPC)
        return recovery.config.compile

    taps = lab.taps(METHODS["deda"]().terms)
    each = CLASSES * IPC * bytes_per_image(taps, SHAPE, "fp32")
    enough = math.floor(BYTES_WORTH_COMPILING / each) + 1
    assert [decided(steps) for steps in (0, 10, enough - 1, enough)] == [False, False, False, True]
    assert [decided(enough, Recover(compile=told)) for told in (False, True)] == [False, True]
    assert decided(1, Recover(compile=True)) is True
    monkeypatch.setattr(compiling, "has_compiler", lambda: False)
    assert decided(enough) is False
