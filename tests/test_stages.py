"""Stages: blends with real images, sizes, and budgets (FADRM), in golden values, in the loop and in a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, Silent, make_lab, method
from torch import Tensor, fx

from fastdd import resolve
from fastdd.config import Augment, BatchSize, EarlyLate, Formation, Method, Recover, Residual, Terms
from fastdd.errors import InputError
from fastdd.models.outline import multiply_adds as forward_of
from fastdd.recipes.grid import expand, whole_item
from fastdd.recover import RealPool, Unit, all_units, check_stages, multiply_adds, plan, share_of_work, stage
from fastdd.recover.loop import cosine, optimize
from fastdd.recover.objective import Signal, TeacherSignal, Variable
from fastdd.recover.stages import NearestImages, resized, stages_of
from fastdd.recover.steps import Round
from fastdd.recover.terms.base import Values
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.variables import Pixels
from fastdd.teachers import Taps

CPU = torch.device("cpu")
OPEN = torch.full((1, 1, 1), -math.inf), torch.full((1, 1, 1), math.inf)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def wave(*shape: int, a: float) -> Tensor:
    return (a * torch.arange(math.prod(shape), dtype=torch.float64)).sin().view(*shape)


def tiny(name: str = "sre2lpp", **own: Any) -> Method:
    """A declared method from real images, two classes and one slot a batch."""
    return method(name, **{"init": "real", "batch": BatchSize(classes=2, slots=1), "steps": 8, **own})


# -- golden values of frontier.md, section 11 -------------------------------------------------------


def test_resizing_and_blending_have_their_golden_values() -> None:
    """From a stage of 3 pixels to one of 4, and from that to one of 3."""
    real, images = wave(1, 1, 4, 4, a=0.7), wave(1, 1, 3, 3, a=1.1)
    variable = Pixels(images, OPEN)

    def values(row: int, column: int) -> list[float]:
        found = variable.free.detach()
        return [float(found.sum()), float(found.square().sum()), float(found[0, 0, row, column])]

    variable.resize((4, 4), antialias=False)
    first_row = variable.free.detach()[0, 0, 0].tolist()
    assert first_row == pytest.approx([0, 0.5570046, 0.8601908, 0.8084964], abs=5e-8)
    variable.blend(resized(real, (4, 4)), 0.5)
    assert values(1, 2) == pytest.approx([2.5321170, 3.5951560, -0.5430424], abs=5e-8)
    smooth = resized(variable.free.detach(), (3, 3), antialias=True)[0, 0, 0].tolist()
    assert smooth == pytest.approx([0.1261731, 0.4104498, 0.4368623], abs=5e-8)
    variable.resize((3, 3), antialias=False)
    first_row = variable.free.detach()[0, 0, 0].tolist()
    assert first_row == pytest.approx([0.0921875, 0.5665680, 0.6157447], abs=5e-8)
    variable.blend(resized(real, (3, 3)), 0.5)
    assert values(2, 1) == pytest.approx([1.3562379, 1.0793382, 0.1835645], abs=5e-8)
    assert resized(real, (4, 4)) is real


def test_the_rate_goes_on_over_the_stages() -> None:
    steps = (499, 500, 999, 1000, 1499, 1500)
    wanted = [0.2135271, 0.2133883, 0.1251963, 0.1250000, 0.0367506, 0.0366117]
    assert [cosine(0.25, step, 2000) for step in steps] == pytest.approx(wanted, abs=5e-8)


class Parabola(Signal):
    """Pulls each pixel to 2: the gradient of (x - 2)^2 / 2. It notes where a pixel is before each step."""

    def __init__(self) -> None:
        self.path: list[float] = []

    def start(self, unit: Unit, steps: int) -> None:
        self.path = []

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        images = variable.images()
        self.path.append(float(images.detach().flatten()[0]))
        loss = ((images - 2) ** 2 / 2).sum()
        loss.backward()
        return {"parabola": loss.detach()}


@pytest.mark.parametrize(
    ("reset", "wanted"),
    [(True, [0, 0.25, 0.4794577, 0.6044577, 0.6405946]), (False, [0, 0.25, 0.4794577, 0.5975796, 0.6311630])],
)
def test_the_loop_has_its_golden_iterates_with_and_without_a_reset(reset: bool, wanted: list[float]) -> None:
    chosen = Method(
        init="real", lr=0.25, steps=4, residual=Residual(stages=2, reset=reset), batch=BatchSize(classes=1)
    )
    (unit,), signal = plan(1, 1, chosen.batch, 1), Parabola()
    anchor = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    images, _ = optimize(
        torch.zeros_like(anchor),
        unit,
        chosen,
        config=Recover(),
        bounds=OPEN,
        signal=signal,
        bar=Silent(),  # type: ignore[arg-type]
        real=lambda _: anchor,
    )
    assert [*signal.path, float(images)] == pytest.approx(wanted, abs=5e-8)


def test_stages_end_where_they_are_to() -> None:
    assert Method(steps=300, residual=Residual(), init="real").stage_ends == [0, 75, 150, 225, 300]
    assert Method(steps=10, residual=Residual(stages=3), init="real").stage_ends == [0, 3, 6, 10]
    shares = Method(steps=9, sizes=(4, 4, 8), budgets=(1, 1, 2))
    assert [stage.steps for stage in stages_of(shares)] == [range(2), range(2, 4), range(4, 9)]
    assert stages_of(Method(steps=7))[0].steps == range(7)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ((200, 224, 200, 224), 0.8986),
        ((160, 224, 160, 224), 0.7551),
        ((128, 160, 192, 224), 0.6429),
        ((112, 160, 192, 224), 0.6237),
        ((112, 112, 160, 224), 0.5026),
    ],
)
def test_shares_of_the_multiplications_are_those_of_the_table(sizes: tuple[int, ...], wanted: float) -> None:
    assert share_of_work(Method(steps=2000, sizes=sizes), (224, 224)) == pytest.approx(wanted, abs=5e-5)
    assert share_of_work(Method(steps=0, sizes=sizes), (224, 224)) == 1


def test_the_work_of_an_image_is_counted_step_by_step() -> None:
    forward = {32: 100, 16: 25}

    def work(teachers: int = 1, **own: Any) -> int | None:
        chosen = Method(steps=4, **own)
        cost = lambda number, size: (number + 1) * forward[size[0]]  # noqa: E731
        return multiply_adds(chosen, cost, teachers=teachers, full=(32, 32))

    assert work() == 2 * 4 * 100
    assert work(sizes=(16, 32)) == 2 * (2 * 25 + 2 * 100)
    assert work(2, ensemble="round_robin") == work(2, ensemble=1) == 2 * (100 + 200 + 100 + 200)
    assert work(2, ensemble="all") == 2 * 4 * 300
    assert work(early_late=EarlyLate(), batch=BatchSize(slots="all")) is None
    small, large = (forward_of("resnet20", 10, (3, side, side)) for side in (16, 32))
    assert large == pytest.approx(41e6, rel=0.02)
    assert small / large == pytest.approx(0.25, rel=1e-3)


def test_the_ladders_of_cifar10_are_one_sweep() -> None:
    (run,) = expand("cifar10-ladders", whole_item("cifar10-ladders")).runs
    sizes = [method.sizes for method in run.recipe.arms.values()]
    assert sizes == [(32, 32, 32, 32), (24, 32, 24, 32), (16, 24, 32, 32), (16, 16, 24, 32)]
    shares = [share_of_work(method, (32, 32)) for method in run.recipe.arms.values()]
    assert shares == [1, 0.78125, 0.703125, 0.515625]


# -- the loop --------------------------------------------------------------------------------------


def images_of(lab: Lab, chosen: Method, unit_images: int = 2, **config: Any) -> dict[tuple[int, int], Tensor]:
    return lab.optimized(chosen, Recover(unit_images=unit_images, **config))


def same(one: dict[tuple[int, int], Tensor], other: dict[tuple[int, int], Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[row], other[row]) for row in one)


@pytest.mark.slow
def test_a_residual_of_one_stage_and_sizes_that_never_change_give_the_bytes_of_none(lab: Lab) -> None:
    plain = images_of(lab, tiny())
    assert same(plain, images_of(lab, tiny(residual=Residual(stages=1))))
    assert same(plain, images_of(lab, tiny(sizes=(8,))))
    kept = Residual(stages=4, alpha=1.0, reset=False)
    assert same(plain, images_of(lab, tiny(residual=kept)))
    blended = images_of(lab, tiny(residual=Residual()))
    assert not same(plain, blended)
    assert same(blended, images_of(lab, tiny(residual=Residual(), sizes=(8, 8, 8, 8))))


def test_a_blend_brings_images_back_to_those_they_started_from(lab: Lab) -> None:
    chosen = tiny(terms=Terms(bn=BatchNorm()), lr=1.0)
    start = torch.cat([lab.start(chosen, unit) for unit in plan(CLASSES, IPC, chosen.batch, 2)])

    def distance(**own: Any) -> float:
        moved = images_of(lab, chosen.model_copy(update=own)).values()
        return float((torch.stack(list(moved)) - start).abs().mean())

    near, half, free = (distance(residual=Residual(alpha=alpha)) for alpha in (0.0, 0.5, 1.0))
    assert near < half < free


SWITCHES: dict[str, Callable[[], Method]] = {
    "residual": lambda: tiny(residual=Residual()),
    "residual on deda": lambda: tiny("deda", batch=BatchSize(classes=1, slots=3), residual=Residual()),
    "sizes": lambda: tiny(sizes=(4, 8, 4, 8)),
    "both, unlike stages": lambda: tiny(
        residual=Residual(stages=3), sizes=(4, 6, 8), budgets=(1, 2, 1), antialias=True
    ),
    "a draw an image": lambda: tiny(
        sizes=(4, 8), augment=Augment(scale=(0.5, 1.0), roll=(-1, 1), per_image=True)
    ),
    "sgd": lambda: tiny(sizes=(4, 8), residual=Residual(stages=2), optimizer="sgd"),
    "padded crops": lambda: tiny(sizes=(4, 8), augment=Augment(pad=1, roll=(0, 0))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
def test_units_of_any_number_of_batches_give_the_same_images(lab: Lab, name: str) -> None:
    chosen = SWITCHES[name]()
    few, many = (images_of(lab, chosen, unit_images) for unit_images in (1, 12))
    assert few.keys() == many.keys()
    for (
        row
    ) in few:  # Adam makes a large step of a rounding where a gradient is nearly 0, so few pixels differ
        assert float((few[row] - many[row]).abs().median()) < 1e-5
    assert same(many, images_of(lab, chosen, 12))


class Sizes(TeacherSignal):
    """Notes the sizes of the images that move."""

    seen: list[int]

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        self.seen.append(variable.free.shape[-1])
        return super().__call__(variable, part, step)


def test_a_ladder_sees_the_crops_of_full_size_and_ends_there(lab: Lab) -> None:
    chosen = tiny(sizes=(4, 6, 8), budgets=(1, 2, 5))
    unit = plan(CLASSES, IPC, chosen.batch, 2)[0]
    signal = Sizes(chosen, lab.recovery(chosen).objective, size=SHAPE[1:], seed=SEED)
    signal.seen = []
    images, _ = optimize(
        lab.start(chosen, unit),
        unit,
        chosen,
        config=Recover(),
        bounds=lab.teacher.bounds(CPU),
        signal=signal,
        bar=Silent(),  # type: ignore[arg-type]
    )
    assert signal.seen == [4] + 2 * [6] + 5 * [8]
    assert images.shape == (2, *SHAPE)
    full = TeacherSignal(tiny(), lab.recovery(tiny()).objective, size=SHAPE[1:], seed=SEED)
    full.start(unit, 8)
    for small, whole in zip(signal.drawn[3:], full.drawn[3:], strict=True):
        assert small is not None
        assert whole is not None
        assert torch.equal(small, whole)
    for small, whole in zip(signal.drawn[:3], full.drawn[:3], strict=True):
        assert small is not None
        assert whole is not None
        assert torch.equal(small[:, :3], whole[:, :3])  # flip and roll, in pixels


def test_a_formation_is_projected_after_the_blend(lab: Lab) -> None:
    chosen = tiny(
        "deda",
        batch=BatchSize(classes=1, slots=2),
        residual=Residual(stages=2, alpha=0.0),
        formation=Formation(images=2, luma=0.5, chroma=0.5),
        steps=2,
        lr=1e-9,
    )
    unit = plan(CLASSES, IPC, chosen.batch, 2)[0]
    unmoved = chosen.model_copy(update={"residual": None})
    images, _ = lab.optimize(chosen, Recover(), unit)
    plain, _ = lab.optimize(unmoved, Recover(), unit)
    torch.testing.assert_close(images, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(images, lab.start(chosen, unit), atol=1e-2)


def test_tiles_are_blended_with_tiles(lab: Lab) -> None:
    chosen = tiny(
        "deda",
        batch=BatchSize(classes=1, slots=4),
        residual=Residual(stages=2, alpha=0.0),
        formation=Formation(kind="zoom", images=4),
        steps=2,
        lr=1e-9,
    )
    unit = all_units(chosen, 1, CLASSES, 1, unit_images=4)[0]
    images, _ = lab.optimize(chosen, Recover(), unit)
    plain, _ = lab.optimize(chosen.model_copy(update={"residual": None}), Recover(), unit)
    assert images.shape == (1, *SHAPE)
    torch.testing.assert_close(images, plain, rtol=0, atol=1e-5)


def test_a_compiled_step_has_a_graph_a_size(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[tuple[int, ...]] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(tuple(next(each for each in inputs if each.ndim == 4).shape))
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **how: compile(step, backend=backend, **how))
    chosen = tiny(sizes=(4, 8, 4, 8), residual=Residual())
    recovery = lab.recovery(chosen, Recover(compile=True))
    for unit in plan(CLASSES, IPC, chosen.batch, 4)[:2]:
        recovery.optimize(unit, Silent())  # type: ignore[arg-type]
    assert [shape[-1] for shape in graphs] == [4, 8]


# -- anchors chosen anew ---------------------------------------------------------------------------


class Embedded:
    """Images of classes whose embeddings are numbers; class c has the positions 10 c, 10 c + 1, ..."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows = rows

    def positions(self, c: int) -> Tensor:
        return 10 * c + torch.arange(len(self.rows[c]))

    def embeddings(self, c: int, who: str) -> Tensor:
        return torch.tensor(self.rows[c])[:, None]


def nearest(pool: Embedded, unit: Unit, starts: Tensor | None) -> NearestImages:
    return NearestImages(
        unit,
        pool=pool,
        decode=lambda positions, _: positions,
        starts=None if starts is None else lambda c: starts + 10 * c,
    )


def test_the_nearest_image_of_the_class_is_taken_by_each_slot() -> None:
    pool = Embedded([0.0, 1.0, 2.0, 3.0], [5.0, 6.0])
    (unit,) = plan(2, 2, BatchSize(classes=2, slots="all"), 4)
    choose = nearest(pool, unit, None)
    embeddings = torch.tensor([0.9, 1.1, 9.0, 1.0])[:, None]
    assert choose(embeddings).tolist() == [1, 1, 11, 10]
    assert choose.choose(torch.tensor([0.5, 2.5, 5.5, 5.4])[:, None]).tolist() == [0, 2, 10, 10]  # ties


def test_unused_images_are_of_no_other_slot_now_or_before() -> None:
    pool = Embedded([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0])
    (unit,) = plan(2, 2, BatchSize(classes=2, slots="all"), 4)
    choose = nearest(pool, unit, torch.tensor([[0, 1]]))
    # Slot 0 is nearest to the start of slot 1, so it takes the next; both classes alike.
    assert choose(torch.tensor([1.2, 1.2, 1.2, 1.2])[:, None]).tolist() == [2, 1, 12, 11]
    # Slot 1 may take neither the start of slot 0 nor what slot 0 has had.
    assert choose(torch.tensor([0.1, 1.9, 3.0, 3.0])[:, None]).tolist() == [0, 1, 13, 11]
    few = Embedded([0.0, 1.0], [0.0, 1.0])
    choose = nearest(few, unit, torch.tensor([[0, 1]]))
    assert choose(torch.tensor([0.9, 0.1, 0.0, 1.0])[:, None]).tolist() == [0, 1, 10, 11]


def test_chosen_anchors_do_not_depend_on_the_units(lab: Lab) -> None:
    names = [f"{c}/{n}" for c, count in enumerate(lab.bank.counts) for n in range(count)]
    images = lab.real([(c, n) for c, count in enumerate(lab.bank.counts) for n in range(count)])
    first = [0, *torch.tensor(lab.bank.counts).cumsum(0).tolist()]
    chosen = tiny(sizes=(4, 8), residual=Residual(stages=2, anchor="unused", alpha=0.0), steps=2, lr=1e-9)

    def found(unit_images: int) -> dict[tuple[int, int], Tensor]:
        rows: dict[tuple[int, int], Tensor] = {}
        recovery = lab.recovery(chosen)
        recovery.nearest = lambda unit: NearestImages(
            unit,
            pool=RealPool(lab.bank, names),
            decode=lambda positions, _: images[positions],
            starts=lambda c: first[c] + torch.arange(IPC)[None],
        )
        for unit in plan(CLASSES, IPC, chosen.batch, unit_images):
            rows |= dict(zip(unit.rows, recovery.optimize(unit, Silent())[0], strict=True))  # type: ignore[arg-type]
        return rows

    few, many = found(2), found(24)
    assert same(few, many)
    taken = {names[(images / 255 - image).abs().sum((1, 2, 3)).argmin()] for image in many.values()}
    assert len(taken) > len(many) / 2
    for (c, _), image in many.items():  # real images of the class, which the last step has hardly moved
        own = images[first[c] : first[c + 1]] / 255
        assert float((own - image).abs().amax((1, 2, 3)).min()) < 1e-3


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"residual": {}, "early_late": {}, "batch": {"slots": "all"}},
            "residual does not go with early_late",
        ),
        ({"sizes": [8], "early_late": {}, "batch": {"slots": "all"}}, "sizes does not go with early_late"),
        ({"residual": {}, "offset": {}}, "residual does not go with offset"),
        ({"sizes": [4, 8], "offset": {}}, "sizes does not go with offset"),
        ({"sizes": [4, 8], "formation": {}, "batch": {"slots": "all"}}, "sizes does not go with formation"),
        ({"sizes": [4, 8], "match": {"features": {}}}, "sizes does not go with match"),
        ({"sizes": [4, 8], "perturb": {"restore": False}}, r"sizes does not go with perturb\.restore false"),
        ({"sizes": [4, 8], "decay": 0.1}, r"sizes does not go with decay, got 0\.1"),
        ({"sizes": [4, 8], "residual": {}}, r"sizes has 2 numbers, but residual\.stages is 4"),
        ({"sizes": [4, 8], "budgets": [1]}, "budgets has 1 numbers, but there are 2 stages"),
        ({"budgets": [1, 1]}, "budgets is for stages, but residual and sizes are null"),
        ({"antialias": True}, "antialias is for stages"),
        ({"residual": {}, "steps": 3}, "steps is 3, which leaves one of the 4 stages without a step"),
        ({"sizes": [4, 8], "residual": {"stages": 2, "reset": False}}, r"residual\.reset is false"),
        ({"residual": {}, "init": "noise"}, "but init is noise"),
        (
            {"residual": {"anchor": "nearest"}, "match": {"features": {}}},
            r"residual\.anchor nearest compares embeddings",
        ),
        ({"sizes": []}, "at least 1 item"),
    ],
)
def test_what_stages_do_not_go_with_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Method.model_validate({"init": "real", **values})


@pytest.mark.parametrize(
    ("sizes", "networks", "shape", "message"),
    [
        ((8, 16), ["resnet8"], (3, 8, 8), r"a\.sizes ends with 16, but the images are 8 x 8 pixels; let it"),
        (
            (4, 8),
            ["resnet8"],
            (3, 8, 6),
            r"a\.sizes ends with 8, but the images are 8 x 6 .*set sizes to null",
        ),
        (
            (8, 32),
            ["resnet8", "convnet3"],
            (3, 32, 32),
            r"a\.sizes has 8, but the teacher convnet3 cannot take images of 8 x 8 pixels; give sizes of 32",
        ),
    ],
)
def test_sizes_that_do_not_fit_the_images_or_a_teacher_are_refused(
    sizes: tuple[int, ...], networks: list[str], shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_stages("a", Method(sizes=sizes), networks, 10, shape)


def test_sizes_are_refused_beside_a_term_of_patches() -> None:
    chosen = method("gvbsm").model_copy(update={"sizes": (4, 8)})
    with pytest.raises(InputError, match=r"terms\.conv is for images of one size"):
        check_stages("a", chosen, ["resnet8"], 10, SHAPE)
    check_stages("a", chosen.model_copy(update={"sizes": (8, 8)}), ["resnet8"], 10, SHAPE)
    pairs = Method(init="real", terms={"pairs": {}}, sizes=(4, 8))
    with pytest.raises(InputError, match=r"terms\.pairs is for images of one size"):
        check_stages("a", pairs, ["resnet8"], 10, SHAPE)


def test_an_arm_that_looks_for_its_anchors_needs_all_embeddings(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "arms: {a: {method: sre2l, residual: {anchor: nearest}}}\nbank: {embeddings: 5}\n"
    )
    with pytest.raises(InputError, match=r"arms\.a\.residual\.anchor nearest .* to all, got 5"):
        resolve(str(tmp_path / "own.yaml"))


def test_units_are_measured_at_the_largest_size(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def measured(taps: Taps, shape: tuple[int, ...], precision: str) -> int:
        seen.append(shape)
        return 1

    monkeypatch.setattr(stage, "bytes_per_image", measured)
    for sizes in (None, (4, 8), (16, 8)):
        lab.recovery(tiny(sizes=sizes)).images_that_fit(CLASSES, IPC)
    assert seen == [SHAPE, SHAPE, (3, 16, 16)]
