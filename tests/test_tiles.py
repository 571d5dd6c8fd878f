"""Formations of tiles: tiles, their enlargement and its gradient, units, kills, and a run."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from galleries import gallery, random_teacher
from pydantic import ValidationError
from test_gradient_matching import COUNTS, CPU, KilledError, KillsAfter, initial, match, recovered, signal_of
from test_gradient_matching import method as matching_method
from tiny_recovery import CLASSES, Lab, make_lab
from tiny_recovery import method as tiny_method
from torch import Tensor
from torchvision.io import decode_image

import fastdd
from fastdd.cli import main
from fastdd.config import BatchSize, EarlyLate, Formation, Match, Method, Perturb, Recover, Terms
from fastdd.distilled import open_set
from fastdd.distilled.formation import unpack
from fastdd.distilled.images import load_recovered, to_levels
from fastdd.distilled.tiles import collage, enlarged, small_tiles, tile_sides, unpack_tiles
from fastdd.errors import InputError
from fastdd.recover import RealImages, plan, recover, unfinished
from fastdd.recover.checkpoint import Checkpoint
from fastdd.recover.steps import Round
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.recover.variables import Formed, Pixels, Tiled
from fastdd.report.finished_run import read_run
from fastdd.report.sheets import sheet
from fastdd.run_folder import RunFolder
from fastdd.runs.experiment import check
from fastdd_kernels import siamese_augment

pytestmark = pytest.mark.usefixtures("one_thread")
ZOOM = Formation(kind="zoom")
CELLS = Formation(kind="cells")
NINE = Formation(kind="zoom", images=9)
SIZES = [(1, 3, 8, 8), (2, 3, 8, 8), (2, 3, 33, 33), (3, 1, 33, 30), (3, 3, 32, 32), (4, 1, 10, 7)]
"""tiles along a side, channels, height, width"""


@pytest.fixture(scope="module")
def real() -> RealImages:
    return RealImages.of(*gallery(COUNTS), random_teacher("resnet8", ("ant", "bee", "cow", "doe")), 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def zoom(factor: int) -> Formation:
    return Formation(kind="zoom", images=factor**2)


def one_by_one(stored: Tensor, factor: int, grey: float) -> Tensor:
    """The enlarged tiles, tile after tile, by ``F.interpolate``."""
    _, _, height, width = stored.shape
    h, w = -(-height // factor), -(-width // factor)
    padded = F.pad(stored, (0, factor * w - width, 0, factor * h - height), value=grey)
    tiles = [
        F.interpolate(
            image[None, :, i * h : i * h + h, j * w : j * w + w],
            (height, width),
            mode="bilinear",
            align_corners=False,
        )
        for image in padded
        for i in range(factor)
        for j in range(factor)
    ]
    return torch.cat(tiles)


# -- tiles -----------------------------------------------------------------------------------------


def test_two_by_two_tiles_by_hand() -> None:
    stored = torch.arange(16.0).view(1, 1, 4, 4)
    found = enlarged(stored, ZOOM, 0.5)
    assert found.shape == (4, 1, 4, 4)
    across, down = torch.tensor([0, 0.25, 0.75, 1]), torch.tensor([0, 1.0, 3, 4])[:, None]
    for place, corner in enumerate((0, 2, 8, 10)):
        assert torch.equal(found[place, 0], corner + across + down)


@pytest.mark.parametrize(("factor", "channels", "height", "width"), SIZES)
def test_tiles_are_enlarged_as_torch_does_it(factor: int, channels: int, height: int, width: int) -> None:
    stored, grey = random(3, channels, height, width).double(), torch.full((channels, 1, 1), 0.3).double()
    wanted = one_by_one(stored, factor, float(grey[0]))
    torch.testing.assert_close(enlarged(stored, zoom(factor), grey), wanted, rtol=0, atol=1e-12)
    single = enlarged(stored.float(), zoom(factor), grey.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("factor", "channels", "height", "width"), SIZES)
def test_the_gradient_passes_the_enlargement(factor: int, channels: int, height: int, width: int) -> None:
    stored = random(2, channels, height, width).double().requires_grad_()
    weights = random(2 * factor**2, channels, height, width, seed=1).double()
    (found,) = torch.autograd.grad((enlarged(stored, zoom(factor), 0.5) * weights).sum(), stored)
    (wanted,) = torch.autograd.grad((one_by_one(stored, factor, 0.5) * weights).sum(), stored)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_an_image_depends_on_its_tile_alone_to_the_bit() -> None:
    stored = random(40, 3, 33, 33)
    whole = enlarged(stored, NINE, 0.5)
    for first, count in ((0, 1), (7, 2), (3, 37)):
        assert torch.equal(
            enlarged(stored[first : first + count], NINE, 0.5), whole[9 * first :][: 9 * count]
        )
    changed = stored.clone()
    changed[5, :, 11:22, 22:] = 0
    differs = (enlarged(changed, NINE, 0.5) != whole).flatten(1).any(1)
    assert differs.nonzero().flatten().tolist() == [9 * 5 + 5]


def test_what_is_read_is_exact_and_ties_go_up() -> None:
    (stored,) = torch.randint(0, 256, (1, 1, 1, 6, 5), generator=torch.Generator().manual_seed(1)).byte()
    found, ties = unpack_tiles(stored, NINE), 0

    def color(y: int, x: int) -> Fraction:
        return Fraction(int(stored[0, 0, y, x])) if x < 5 else Fraction(255, 2)

    for place in range(9):
        i, j = 2 * (place // 3), 2 * (place % 3)
        tile = [[color(y, j), color(y, j + 1)] for y in (i, i + 1)]
        for y in range(6):
            for x in range(5):
                down, right = (
                    min(max(Fraction(2 * k + 1, side) - Fraction(1, 2), Fraction(0)), Fraction(1))
                    for k, side in ((y, 6), (x, 5))
                )
                left_and_right = [(1 - right) * a + right * b for a, b in tile]
                value = (1 - down) * left_and_right[0] + down * left_and_right[1]
                ties += value % 1 == Fraction(1, 2)
                assert int(found[place, 0, y, x]) == floor(value + Fraction(1, 2))
    assert ties > 5


def test_a_collage_samples_the_nearest_pixels() -> None:
    images = torch.arange(64).view(4, 1, 4, 4).byte()
    rows = [[0, 2, 16, 18], [8, 10, 24, 26], [32, 34, 48, 50], [40, 42, 56, 58]]
    assert collage(images, ZOOM)[0, 0].tolist() == rows
    images = random(18, 3, 32, 32)
    found, sizes = collage(images, NINE), (11, 11, 10)
    for place in range(9):
        i, j = divmod(place, 3)
        tile = found[:, :, 11 * i : 11 * i + sizes[i], 11 * j : 11 * j + sizes[j]]
        assert torch.equal(tile, F.interpolate(images[place::9], (sizes[i], sizes[j])))
    assert torch.equal(collage(images, zoom(1)), images)


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a i + b), i the place of each number, float64."""
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).view(shape)


def test_cells_have_the_golden_values() -> None:
    mosaic = collage(wave(4, 1, 4, 4, a=0.31), CELLS)
    digits = [[0, 0.5810352, -0.9695007, -0.6466507], [-0.1656042, 0.4382307, -0.9967018, -0.7640425]]
    torch.testing.assert_close(mosaic[0, 0, [0, 3]], torch.tensor(digits).double(), rtol=0, atol=5e-8)
    cells = enlarged(mosaic, CELLS, 0.5)
    row = torch.tensor([0.3032410, 0.2183908, 0.0486902, -0.0361600]).double()
    torch.testing.assert_close(cells[3, 0, 1], row, rtol=0, atol=5e-8)
    assert float(cells.sum()) == pytest.approx(-1.6124488, abs=5e-8)
    assert float(cells.square().sum()) == pytest.approx(18.8098154, abs=5e-8)


@pytest.mark.parametrize("size", [(9, 8), (33, 32), (8, 8)])
def test_the_first_cells_are_a_pixel_larger_where_the_side_is_not_divided(size: tuple[int, int]) -> None:
    images, nine = random(18, 3, *size).double(), Formation(kind="cells", images=9)
    sides = ([side // 3 + (k < side % 3) for k in range(3)] for side in size)
    heights, widths = tile_sides(nine, size)
    assert [heights, widths] == list(sides)
    stored = collage(images, nine)
    assert stored.shape == (2, 3, *size)
    cells = [cell for band in stored.split(heights, 2) for cell in band.split(widths, 3)]
    for place, cell in enumerate(cells):
        assert torch.equal(cell, F.interpolate(images[place::9], cell.shape[2:]))
    found = enlarged(stored, nine, 0.5)
    for place, cell in enumerate(cells):
        wanted = F.interpolate(cell, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(found[place::9], wanted, rtol=0, atol=1e-12)
    assert torch.equal(enlarged(stored[1:], nine, 0.5), found[9:])


def test_cells_and_zoom_are_the_same_where_the_side_is_divided() -> None:
    images = random(8, 3, 8, 6)
    assert torch.equal(collage(images, CELLS), collage(images, ZOOM))
    assert torch.equal(enlarged(images, CELLS, 0.5), enlarged(images, ZOOM, 0.5))


def test_tiles_beyond_the_image_are_refused() -> None:
    assert tile_sides(NINE, (33, 32)) == ([11, 11, 11], [11, 11, 10])
    with pytest.raises(InputError, match=r"images of 4 x 9 pixels into 3 x 3 tiles of 2 x 3, so the last"):
        collage(random(9, 1, 4, 9), NINE)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"images": 5}, "kind zoom stores f x f images in one, got images 5; set it to 4 or 9"),
        ({"kind": "cells", "images": 5}, "kind cells stores f x f images in one, got images 5; set it to 4"),
        ({"luma": 0.5}, "kind zoom keeps no frequencies, got luma 0.5; leave luma and chroma out"),
        ({"images": 9, "chroma": 0.25}, "kind zoom keeps no frequencies, got chroma 0.25"),
    ],
)
def test_zoom_refuses_what_it_has_not(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Formation.model_validate({"kind": "zoom", **keys})
    assert Formation.model_validate({"kind": "zoom", "luma": None, "images": 9}).factor == 3
    assert Formation().shares == (0.75, 0.25)


# -- recover ---------------------------------------------------------------------------------------


def dm(how: Match, **changes: Any) -> Method:
    return matching_method(how, **{"formation": ZOOM, "lr": 0.5, "clip": True, **changes})


FEATURES = match(features={})


def test_the_variable_is_what_is_stored() -> None:
    black, white = torch.tensor([[[-2.0]], [[-1.0]], [[0.0]]]), torch.tensor([[[2.0]], [[1.0]], [[3.0]]])
    images = black + (white - black) * random(8, 3, 9, 9)
    variable = Tiled(images, (black, white), ZOOM)
    assert torch.equal(variable.result(), collage(images, ZOOM))
    shown = variable.images()
    assert shown.shape == images.shape
    torch.testing.assert_close(shown[3, :, -1, -1], torch.tensor([0.0, 0.0, 1.5]))  # grey beyond the image
    assert torch.equal(variable.images(torch.tensor([6, 1])), shown[[6, 1]])
    optimizer = torch.optim.SGD([variable.free], lr=100.0)
    shown.sum().backward()
    variable.step(optimizer)
    assert torch.equal(variable.result(), black.expand(2, 3, 9, 9))
    late = Tiled(images, (black, white), ZOOM, clip=False)
    late.images().sum().backward()
    late.step(torch.optim.SGD([late.free], lr=100.0))
    assert float(late.free.detach().min()) < -10
    assert torch.equal(late.result(), variable.result())


@pytest.mark.parametrize("clip", [True, False])
def test_decay_pulls_towards_the_start_as_adamw_pulls_what_was_added(clip: bool) -> None:
    start, far = torch.full((1, 1, 1, 1), 0.4, dtype=torch.float64), torch.full((1, 1, 1), 9.0).double()
    variable = Pixels(start, (-far, far), clip=clip, decay=0.01)
    optimizer, found = torch.optim.Adam([variable.free], lr=0.01, betas=(0.9, 0.999)), list[float]()
    for gradient in (0.3, -0.1, 0.2):
        variable.free.grad = torch.full_like(start, gradient)
        variable.step(optimizer)
        found.append(float(variable.free.detach()))
    assert found == pytest.approx([0.39, 0.385998815, 0.37996935], abs=5e-9)
    assert torch.equal(variable.anchors, start)
    added = Pixels(torch.zeros_like(start), variable.bounds, clip=clip, decay=0.01)
    optimizer = torch.optim.Adam([added.free], lr=0.01, betas=(0.9, 0.999))
    for _ in range(200):
        added.free.grad = torch.full_like(start, 0.3)
        added.step(optimizer)
    assert float(added.free.detach()) == pytest.approx(-1.9802306, abs=5e-8)


def test_a_formation_decays_towards_what_it_keeps_of_the_start() -> None:
    images, bounds = random(4, 3, 8, 8), (torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    for variable in (Formed(images, bounds, Formation(), decay=0.5), Tiled(images, bounds, ZOOM, decay=0.5)):
        start = variable.result().clone()
        assert torch.equal(variable.anchors, images)
        with torch.no_grad():
            variable.free.mul_(0.5)
        variable.free.grad = torch.zeros_like(variable.free)
        variable.step(torch.optim.SGD([variable.free], lr=1.0))
        torch.testing.assert_close(variable.result(), 0.75 * start)


def test_the_gradient_of_dm_is_that_of_float64(real: RealImages) -> None:
    (unit,) = plan(4, 4, BatchSize(classes="all", slots="all"), 100)
    signal, images = signal_of(FEATURES, real), initial(real, unit)
    variable = Tiled(images, real.teacher.bounds(CPU), ZOOM)
    signal.start(unit, 9)
    signal(variable, Round(range(9), unit, None), 0)
    network = copy.deepcopy(signal.networks.network).double()  # type: ignore[attr-defined]
    kept: list[Tensor] = []
    (last,) = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    stored = collage(images, ZOOM).double().requires_grad_()
    black, white = (each.double() for each in real.teacher.bounds(CPU))
    shown = enlarged(stored, ZOOM, (black + white) / 2)
    total = torch.zeros((), dtype=torch.float64)
    for c in range(4):
        drawn, means = real.siamese(FEATURES.siamese, c, 0), []
        for x in (shown[4 * c : 4 * c + 4], real.drawn(c, 256, 0).double()):
            network(siamese_augment(x, drawn))
            means.append(kept[-1].mean(0))
        total = total + (means[0] - means[1]).square().sum()
    (wanted,) = torch.autograd.grad(total, stored)
    assert variable.free.grad is not None
    error = (variable.free.grad.double() - wanted).norm() / wanted.norm()
    assert error < 2e-5, error


def bytes_of(stored: Tensor, real: RealImages) -> Tensor:
    return to_levels(real.teacher.denormalize(stored), Method(init="real", steps=0).save)


def test_one_class_a_unit_gives_the_bytes_of_all_classes_at_once(real: RealImages) -> None:
    sets = []
    for together in (1, 12, 1000):
        stored: dict[tuple[int, int], Tensor] = {}
        for unit in plan(4, 4, BatchSize(classes=1, slots="all"), together):
            images = bytes_of(recovered(dm(FEATURES, classes=1), real, unit)[0], real)
            stored |= dict(zip(unit.rows[::4], images, strict=True))
        sets.append(torch.stack([stored[c, 0] for c in range(4)]))
    assert torch.equal(sets[0], sets[1])
    assert torch.equal(sets[0], sets[2])
    (unit,) = plan(4, 4, BatchSize(classes="all", slots="all"), 1)
    start = bytes_of(collage(initial(real, unit), ZOOM), real)
    assert (sets[0] != start).flatten(1).any(1).all()


@pytest.mark.parametrize(
    "how", [FEATURES, match(gradients={}, networks={"steps": 3, "inner": {"epochs": 2, "batch": 5}})]
)
def test_a_killed_unit_continues_with_the_same_bytes(real: RealImages, how: Match, tmp_path: Path) -> None:
    (unit,) = plan(4, 4, BatchSize(classes="all", slots="all"), 1)
    whole, losses = recovered(dm(how), real, unit)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "owner")
    with pytest.raises(KilledError):
        recovered(dm(how), real, unit, checkpoint=checkpoint, bar=KillsAfter(3))
    again, same = recovered(dm(how), real, unit, checkpoint=checkpoint)
    assert whole.shape == (4, 3, 8, 8)
    assert torch.equal(again, whole)
    assert same == losses


def test_a_tile_that_waits_for_its_round_stays(lab: Lab) -> None:
    how = {"init": "real", "batch": BatchSize(classes="all", slots="all"), "formation": ZOOM, "lr": 0.02}
    delt = Method.model_validate(
        how | {"steps": 4, "early_late": EarlyLate(rounds=2), "terms": Terms(ce=CrossEntropy())}
    )
    (unit,) = plan(2, 4, delt.batch, 100)
    start = collage(lab.start(delt, unit), ZOOM)
    variable = Tiled(lab.start(delt, unit), lab.teacher.bounds(CPU), ZOOM)
    variable.images(torch.tensor([0, 1, 4, 5])).square().sum().backward()
    variable.step(torch.optim.Adam([variable.free], lr=0.1))
    moved = (variable.result() != start).flatten(2).any(1).view(2, 8, 8)
    assert moved[:, :4].float().mean() > 0.9  # the first two tiles of each stored image are its upper half
    assert not moved[:, 4:].any()
    images, losses = lab.optimize(delt, Recover(log_every=1), unit)
    assert images.shape == (2, 3, 8, 8)
    assert len(losses) == 4


def written(lab: Lab, chosen: Method, out: Path, ipc: int) -> Tensor:
    recovery, run = lab.recovery(chosen, Recover(unit_images=8)), RunFolder(out)
    left = unfinished("arm", recovery, run, num_classes=CLASSES, ipc=ipc)
    recover("arm", left, recovery, classes=lab.bank.classes, run=run)
    files = [out / "images" / "arm" / name / f"{k:05d}.png" for name in lab.bank.classes for k in range(ipc)]
    return torch.stack([decode_image(str(file)) for file in files])


def test_without_steps_a_collage_of_real_images_is_stored(lab: Lab, tmp_path: Path) -> None:
    start = Method(
        init="real", steps=0, batch=BatchSize(classes=1, slots="all"), formation=ZOOM, terms=Terms(ce=None)
    )
    stored = written(lab, start, tmp_path, 1)
    wanted = torch.stack(
        [collage(lab.real([(c, slot) for slot in range(4)]), ZOOM)[0] for c in range(CLASSES)]
    )
    assert torch.equal(stored, wanted)
    folder = tmp_path / "images" / "arm"
    seen, labels, storage = load_recovered(folder, lab.bank.classes, 4, channels=3, method=start)
    assert storage.per_file == 4
    assert storage.mosaics is not None
    assert torch.equal(storage.mosaics, wanted)
    assert torch.equal(seen, unpack(wanted, ZOOM))
    assert labels.tolist() == [c for c in range(CLASSES) for _ in range(4)]


def test_the_teacher_of_dwa_climbs_on_what_students_will_see(lab: Lab) -> None:
    batch = BatchSize(classes=2, slots=4)
    dwa = tiny_method("dwa", init="real", batch=batch, perturb=Perturb(), formation=ZOOM)
    (unit, *_) = plan(CLASSES, 4, dwa.batch, 1)
    recovery = lab.recovery(dwa)
    images, _, _ = recovery._climb(unit.batches[0])
    variable = Tiled(recovery.initial(unit.rows), lab.teacher.bounds(CPU), ZOOM)
    assert torch.equal(images, variable.images().detach())


# -- a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoomed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of DM with four digits, gray, in a stored image; read only."""
    out = tmp_path_factory.mktemp("zoomed") / "out"
    (out.parent / "own.yaml").write_text(
        (finished.parent / "tiny.yaml").read_text().partition("arms:")[0]
        + "arms: {dm: {method: dm, formation: {kind: zoom, images: 4}, match: {networks: {real: 16}}}}\n"
        + "recover: {unit_images: 8}\n"
        + "student: {network: resnet8, steps: 10, batch: 20, seeds: 1, evaluations: 1}\n"
    )
    given = [f"teacher.weights={finished / 'teacher.safetensors'}", "metrics.full_set=false"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["run", str(out.parent / "own.yaml"), "--out", str(out), *given]) == 0
    return out


def stored_of(run: Path, names: Sequence[str]) -> Tensor:
    files = [run / "images" / "dm" / name / f"{k:05d}.png" for name in names for k in range(2)]
    assert len(list((run / "images" / "dm").glob("*/*"))) == len(files)
    return torch.stack([decode_image(str(file)) for file in files])


def test_a_run_stores_tiles_and_everything_reads_them_enlarged(zoomed: Path, tmp_path: Path) -> None:
    names = [str(c) for c in range(10)]
    wanted = unpack_tiles(stored_of(zoomed, names), ZOOM)
    found = open_set(zoomed, "dm", channels=1)
    assert torch.equal(found.images, wanted)
    assert found.ids[2:5] == ("0/00000.png#2", "0/00000.png#3", "0/00001.png#0")
    assert json.loads((zoomed / "metrics.json").read_text())["arms"]["dm"]["seen"] == 8
    run = read_run(zoomed)
    (arm,) = (arm for arm in run.arms if arm.key == "dm")
    assert "4 images as tiles of one" in arm.settings
    assert (zoomed / "report.html").is_file()
    assert sheet([[run.image(arm, "3", slot) for slot in range(4)]]).columns == 4
    command = ["export", str(zoomed), "--arm", "dm", "--to", "imagefolder", "--out", str(tmp_path / "folder")]
    assert main(command) == 0
    files = sorted((tmp_path / "folder" / "train").glob("*/*"))
    assert torch.equal(torch.stack([decode_image(str(file)) for file in files]), wanted)


def test_an_evaluation_trains_the_students_of_the_run(zoomed: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    command = ["evaluate", str(zoomed), "--arm", "dm", "--seeds", "1", "--no-full-set", "--json", str(out)]
    assert main(command) == 0
    for student in json.loads(out.read_text())["students"]:
        known = json.loads((zoomed / "students" / student["arm"] / "seed_0.json").read_text())
        assert student["last"] == known["last"]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("arms.dm.batch.slots=2", "a batch holds a multiple of them: set batch.slots to all, got 2"),
        ("arms.dm.formation.images=6", "kind zoom stores f x f images in one, got images 6"),
        ("arms.dm.formation.luma=0.5", "kind zoom keeps no frequencies, got luma 0.5"),
        ("arms.dm.formation.images=25", "5 x 5 tiles of 2 x 2, so the last ones lie beyond the image"),
    ],
)
def test_formations_that_cannot_be_are_refused(
    zoomed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, text: str
) -> None:
    recipe = str(zoomed.parent / "own.yaml")
    assert main(["run", recipe, "--out", str(tmp_path / "out"), override]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("images", "side", "said"),
    [
        (4, 32, ""),
        (9, 224, ""),
        (
            9,
            64,
            "images is 9, which leaves each image about 22 x 22 of 64 x 64 pixels; set a.images=4, or a ",
        ),
        (4, 28, "images is 4, which leaves each image about 14 x 14 of 28 x 28 pixels; set a=null, or a "),
    ],
)
def test_tiles_that_show_little_of_an_image_are_told(images: int, side: int, said: str) -> None:
    formation = Formation(kind="zoom", images=images)
    whole = f"note: a.{said}larger data.size, to show more of it" if said else ""
    assert small_tiles("a", formation, (side, side)) == whole


def test_small_tiles_are_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(
        "data: {root: digits, channels: 1}\nipc: 1\n"
        "teacher: {network: resnet8, mean: [0.305], std: [0.376]}\n"
        "arms: {a: {method: sre2l, formation: {kind: zoom}, batch: {slots: all}}}\n"
        "student: {network: resnet8, steps: 2}\n"
    )
    check(fastdd.resolve(str(tmp_path / "own.yaml")), tmp_path / "out")
    assert (
        "note: arms.a.formation.images is 4, which leaves each image about 4 x 4" in capsys.readouterr().err
    )
