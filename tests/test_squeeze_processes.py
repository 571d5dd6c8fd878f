"""Squeeze by several processes: the teacher of one process but for rounding, in as many steps."""

from __future__ import annotations

import json
from pathlib import Path

import forked
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from squeezed_together import CASES, CONFIG, gradients, squeezed, written
from torch import Tensor

from fastdd.errors import InputError
from fastdd.runtime.distributed import Share
from fastdd.teachers import check_shares

IMAGES, TESTED = 1438, 359


def read(path: Path) -> tuple[dict[str, Tensor], list[dict[str, float]], int]:
    with safe_open(str(path), framework="pt") as file:
        notes = file.metadata()
        return (
            {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118  - it is no mapping
            json.loads(notes["curve"]),
            int(notes["decoded"]),
        )


def farthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of the weights and statistics of two networks."""
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[name].double() - theirs[name].double()).abs().max())
        for name in ours
        if name.startswith("network/")
    )


def require_gradients(folder: Path) -> None:
    """Those of a step of several processes are those of one, in float64."""
    wanted, found = gradients(Share()), load_file(folder / "gradients-0.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of each case."""
    folder, before = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    for case in CASES:
        written(*squeezed(case, Share()), folder / f"{case}.safetensors")
    torch.set_num_threads(before)
    return folder


def together(folder: Path, processes: int, *cases: str) -> None:
    forked.together(Path(__file__).with_name("squeezed_together.py"), folder, *cases, processes=processes)


def test_two_processes_make_the_teacher_of_one_but_for_rounding(alone: Path, tmp_path: Path) -> None:
    together(tmp_path, 2, *CASES)
    require_gradients(tmp_path)
    for case in ("synchronized", "decoded"):
        weights, curve, _ = read(alone / f"{case}.safetensors")
        found = [read(tmp_path / f"{case}-{number}.safetensors") for number in range(2)]
        for name, value in found[0][0].items():
            assert torch.equal(value, found[1][0][name]), name
        assert farthest(found[0][0], weights) < 3e-3  # rounding, after 14 steps
        assert found[0][1] == found[1][1]
        for ours, theirs in zip(found[0][1], curve, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
            assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1.5 / TESTED)
        for name in ("shown", "early"):
            assert torch.equal(found[0][0][f"scores/{name}"], weights[f"scores/{name}"])
        for name in ("error", "margin"):
            torch.testing.assert_close(
                found[0][0][f"scores/{name}"], weights[f"scores/{name}"], rtol=0, atol=1e-2
            )
    decoded = [read(tmp_path / f"synchronized-{number}.safetensors")[2] for number in range(2)]
    assert max(decoded) <= IMAGES / 2 + 2  # and one that tells the size
    own = [read(tmp_path / f"own-{number}.safetensors")[0] for number in range(2)]
    weights = read(alone / "own.safetensors")[0]
    assert farthest(own[0], own[1]) == 0
    assert farthest(own[0], weights) > 1e-2  # other statistics make another teacher

    resumed, _ = squeezed("synchronized", Share(), tmp_path / "checkpoint.safetensors")
    assert resumed.images == 7 * CONFIG.batch  # the second epoch alone
    written(resumed, 0, tmp_path / "resumed.safetensors")
    ours, theirs = (
        read(folder / name)[0]
        for folder, name in ((tmp_path, "resumed.safetensors"), (alone, "synchronized.safetensors"))
    )
    assert farthest(ours, theirs) < 3e-3


def test_shares_that_do_not_divide_a_batch_make_the_same_teacher(alone: Path, tmp_path: Path) -> None:
    together(tmp_path, 3, "synchronized")
    found = read(tmp_path / "synchronized-0.safetensors")[0]
    require_gradients(tmp_path)
    assert farthest(found, read(alone / "synchronized.safetensors")[0]) < 3e-3


@pytest.mark.bad_input("processes")
@pytest.mark.parametrize(("count", "sync", "least"), [(201, True, 1), (101, False, 2)])
def test_more_processes_than_a_batch_has_images_are_refused(count: int, sync: bool, least: int) -> None:
    config = CONFIG.model_copy(update={"sync_batch_norm": sync})
    with pytest.raises(
        InputError, match=rf"teacher\.batch 200 leaves .* expected at least {least}; start at most"
    ):
        check_shares(config, 1000, Share(0, count), "teacher")
    check_shares(config, 1000, Share(0, 200 // least), "teacher")
