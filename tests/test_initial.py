"""Initial images: selections of real ones, and RDED's mosaics, against definitions written out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from galleries import pixels
from PIL import Image
from sklearn.cluster import KMeans
from tiny_recovery import CLASSES, SEED, Lab, make_lab
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fastdd.bank import Bank
from fastdd.config import RDED, Data, Method, Teacher
from fastdd.data import open_dataset
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.recover import Chosen, RealPool, decoder, original_images
from fastdd.recover.init import rded as mosaic
from fastdd.recover.init.selection import (
    confident,
    herding,
    kcenter,
    kmeans,
    log_probability,
    medium,
    moderate,
)
from fastdd.runs.experiment import check
from fastdd.runs.pipeline import begin, run
from fastdd.runs.run import Run
from fastdd.runtime.seeds import generator
from fastdd.teachers import load_teacher
from fastdd_kernels import resample_parameters

COUNTS = (9, 12, 7, 10)  # of the tiny recovery's classes
FIRST = (0, 9, 21, 28)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def images(lab: Lab) -> Tensor:
    """All real images of the tiny recovery."""
    return lab.real([(c, slot) for c in range(CLASSES) for slot in range(COUNTS[c])])


@pytest.fixture
def chosen(lab: Lab, images: Tensor, tmp_path: Path) -> Callable[..., Chosen]:
    """Initial images by a rule, for 3 slots unless told."""

    def make(init: str, slots: int = 3, folder: str = "initial", size: int = 8, **rded: Any) -> Chosen:
        def decode(positions: Tensor, times: int) -> Tensor:
            return images[positions].repeat_interleave(times, 2).repeat_interleave(times, 3)

        names = [f"{c}/{i}" for c in range(CLASSES) for i in range(COUNTS[c])]
        rule = Method(init=init, rded=RDED(**rded), steps=0)  # type: ignore[arg-type]
        return Chosen(
            rule,
            slots,
            pool=RealPool(lab.bank, names),
            decode=decode,
            originals=lambda positions: list(images[positions]),
            teacher=lab.teacher,
            size=(size, size),
            seed=SEED,
            folder=tmp_path / folder,
        )

    return make


# -- rankings ---------------------------------------------------------------------------------------


def test_medium_goes_outward_from_the_median_as_released() -> None:
    """DELT's index is ceil(n / 2) + int(-+ (i + 1) / 2) among ascending scores."""
    score = torch.rand(11, generator=torch.Generator().manual_seed(0))
    ascending = score.argsort()
    released, sign = [], -1
    for i in range(9):
        released.append(int(ascending[math.ceil(11 / 2) + int(sign * (i + 1) / 2)]))
        sign = -sign
    assert medium(score, 9).tolist() == released


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_medium_may_take_all(n: int) -> None:
    score = torch.rand(n)
    assert sorted(medium(score, n).tolist()) == list(range(n))
    for count in range(1, n):
        assert medium(score, count).tolist() == medium(score, n)[:count].tolist()


def test_confident_and_ties() -> None:
    assert confident(torch.tensor([1.0, 3.0, 2.0, 3.0]), 3).tolist() == [1, 3, 2]


def test_probability_from_the_bank_is_the_network_s(lab: Lab, images: Tensor) -> None:
    network = lab.double()
    for c in range(CLASSES):
        real = images[FIRST[c] : FIRST[c] + COUNTS[c]]
        wanted = network(lab.teacher.normalize(real).double()).log_softmax(1)[:, c]
        got = log_probability(lab.bank.embeddings(c), c, lab.teacher.network)
        torch.testing.assert_close(got, wanted, atol=2e-2, rtol=0)  # embeddings are float16 in the bank


def test_herding_follows_the_mean() -> None:
    """In one dimension with mean 0 the first image is the one nearest 0, and the next one cancels it."""
    x = torch.tensor([[-4.0], [1.0], [5.0], [-2.0], [0.5], [-0.5]], dtype=torch.float64)
    assert x.mean().item() == 0
    assert herding(x, 3).tolist() == [4, 5, 1]
    random = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order: list[int] = []
    for _ in range(7):
        rest = [i for i in range(40) if i not in order]
        order.append(min(rest, key=lambda i: (random[[*order, i]].mean(0) - random.mean(0)).norm().item()))
    assert herding(random, 7).tolist() == order


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_kmeans_takes_an_image_near_each_center() -> None:
    blobs = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    blobs += torch.tensor([[0.0] * 3] * 30 + [[10.0] * 3] * 20 + [[-10.0] * 3] * 10)
    picked = kmeans(blobs, 3, seed=1)
    assert [0 if i < 30 else 1 if i < 50 else 2 for i in picked.tolist()] == [
        0,
        1,
        2,
    ]  # largest cluster first
    fitted = KMeans(3, n_init=1, random_state=1).fit(blobs.numpy())
    for i in picked.tolist():
        own = fitted.labels_ == fitted.labels_[i]
        center = blobs[torch.from_numpy(own)].mean(0)
        assert (blobs - center).norm(dim=1).argmin() == i
    twins = torch.zeros(5, 2, dtype=torch.float64)
    twins[4] = 1
    assert len(set(kmeans(twins, 4, seed=0).tolist())) == 4  # fewer distinct images than centers


@pytest.mark.filterwarnings("error")
def test_one_image_a_class_is_nearest_to_the_mean(lab: Lab) -> None:
    x = lab.bank.embeddings(1).double()
    wanted = int((x - x.mean(0)).norm(dim=1).argmin())
    assert kmeans(x, 1, 0).tolist() == herding(x, 1).tolist() == [wanted]


# -- rows ------------------------------------------------------------------------------------------


def test_coresets_have_the_values_that_their_definitions_give() -> None:
    """Golden values of five points; DeepCore's herding takes the largest value and so 3, 1, 4."""
    x = torch.tensor([[0, 0], [1, 0], [0, 2], [3, 1], [1, 1]], dtype=torch.float64)
    assert herding(x, 3).tolist() == [4, 1, 2]
    assert kcenter(x, 3, first=0).tolist() == [0, 3, 2]
    assert kcenter(x, 3, first=4).tolist() == [4, 3, 0]
    assert moderate(x, 5).tolist() == [0, 2, 1, 3, 4]


def test_coresets_of_equal_images_are_distinct() -> None:
    x = torch.zeros(4, 2, dtype=torch.float64)
    assert kcenter(x, 4, first=2).tolist() == [2, 0, 1, 3]
    assert moderate(x, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("init", ["confident", "medium", "kmeans", "herding", "kcenter", "moderate", "rded"])
def test_a_slot_starts_from_the_same_image_in_any_company(chosen: Callable[..., Chosen], init: str) -> None:
    rows = [(c, slot) for slot in range(3) for c in range(CLASSES)]
    together = chosen(init)(rows)
    assert together.dtype == torch.uint8
    assert together.shape == (12, 3, 8, 8)
    again = chosen(init, folder="other")
    assert all(
        torch.equal(again([row])[0], image)
        for row, image in zip(reversed(rows), together.flip(0), strict=True)
    )
    assert len({bytes(image.numpy()) for image in together}) == 12


def test_confident_slots_are_in_order_of_probability(chosen: Callable[..., Chosen], lab: Lab) -> None:
    picked = chosen("confident", 7)([(2, slot) for slot in range(7)])
    probability = lab.teacher.network(lab.teacher.normalize(picked)).log_softmax(1)[:, 2]
    assert (probability.diff() < 2e-2).all()  # float16
    assert probability[0] > probability[-1]


def test_choices_are_written_once_and_read_afterwards(chosen: Callable[..., Chosen], tmp_path: Path) -> None:
    first = chosen("medium")([(1, 0)])
    file = tmp_path / "initial" / "00001.json"
    (a, *_), *_ = before = json.loads(file.read_text())
    assert FIRST[1] <= a < FIRST[1] + COUNTS[1]
    file.write_text(json.dumps(before[::-1]))
    assert torch.equal(chosen("medium")([(1, 2)]), first)


def test_too_many_slots_or_too_few_embeddings(chosen: Callable[..., Chosen]) -> None:
    with pytest.raises(
        InputError, match=r"init medium needs 8 images of class 'cow', which has 7; lower ipc"
    ):
        chosen("medium", 8)([(2, 0)])
    few = chosen("kmeans")
    assert isinstance(few.pool, RealPool)
    few.pool = replace(few.pool, bank=Bank(few.pool.bank.path))
    few.pool.bank.manifest["embeddings"][0] = 5
    with pytest.raises(
        InputError, match=r"holds 5 embeddings of the 9 images of 'ant'.*bank\.embeddings=all"
    ):
        few([(0, 0)])


def test_images_that_the_bank_could_not_read_are_left_out(chosen: Callable[..., Chosen]) -> None:
    pool = chosen("medium").pool
    assert isinstance(pool, RealPool)
    pool = replace(pool, bank=Bank(pool.bank.path))
    pool.bank.manifest["skipped"] = {"1/0": "damaged", "1/11": "damaged"}
    assert pool.positions(1).tolist() == list(range(FIRST[1] + 1, FIRST[1] + 11))


# -- RDED ------------------------------------------------------------------------------------------


def written_out(lab: Lab, images: Tensor, c: int, slots: int, config: RDED, factor: int, size: int) -> Tensor:
    """RDED with torchvision's crop, one image and one crop at a time, for images [n, C, h, w] as decoded."""
    random = generator(SEED, "rded", c)
    pool = torch.randperm(COUNTS[c], generator=random)[: config.images]
    drawn = resample_parameters(
        len(pool) * config.crops, *images.shape[2:], config.area, ratio=(1, 1), flip=0, generator=random
    ).tolist()
    side, network = size // factor, lab.double()
    found = []
    for place, i in enumerate(pool.tolist()):
        tries = []
        for k in range(config.crops):
            _, _, _, top, left, height, width = drawn[place * config.crops + k]
            exact = images[FIRST[c] + i][None].double()
            crop = tv.resized_crop(exact, top, left, height, width, [side, side], antialias=True)
            mean, std = (
                torch.tensor(v).double()[:, None, None] for v in (lab.teacher.card.mean, lab.teacher.card.std)
            )
            before, after = (size - side) // 2, size - side - (size - side) // 2
            padded = F.pad((crop / 255 - mean) / std, (before, after, before, after))
            tries.append((F.cross_entropy(network(padded), torch.tensor([c])).item(), crop[0]))
        found.append(min(tries, key=lambda pair: pair[0]))
    best = [crop for _, crop in sorted(found, key=lambda pair: pair[0])][: slots * factor**2]
    canvas = torch.zeros(slots, 3, size, size, dtype=torch.float64)
    parts = [size // factor + (i < size % factor) for i in range(factor)]
    for k in range(factor**2):
        i, j = divmod(k, factor)
        top, left = sum(parts[:i]), sum(parts[:j])
        for slot in range(slots):
            tile = F.interpolate(best[k * slots + slot][None], (parts[i], parts[j]))[0]
            canvas[slot, :, top : top + parts[i], left : left + parts[j]] = tile
    return canvas


@pytest.mark.parametrize("source", ["original", "center"])
@pytest.mark.parametrize(("factor", "size", "slots"), [(1, 8, 3), (2, 8, 2), (2, 9, 1)])
def test_mosaics_are_those_of_the_released_code(
    chosen: Callable[..., Chosen],
    lab: Lab,
    images: Tensor,
    factor: int,
    size: int,
    slots: int,
    source: Literal["original", "center"],
) -> None:
    config = RDED(factor=factor, images=8, crops=3, area=(0.2, 1.0), source=source)
    rule = chosen("rded", slots, size=size, **config.model_dump())
    larger = images
    if source == "center":
        larger = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    for c in (1, 3):
        got = rule([(c, slot) for slot in range(slots)])
        wanted = written_out(lab, larger, c, slots, config, factor, size)
        assert float((got - wanted).abs().max()) <= 0.51  # rounded to levels


def test_crops_are_cut_from_whole_images_of_any_size(chosen: Callable[..., Chosen], images: Tensor) -> None:
    """Of images that are wider than what the run reads of them, crops lie outside of their center too."""

    def wide(positions: Tensor) -> list[Tensor]:
        return [F.pad(images[i], (6 + i % 3, 6)) for i in positions.tolist()]  # three widths, 20 to 22 pixels

    rule = chosen("rded", 3, images=9, crops=4, area=(0.05, 0.3))
    rule.mosaic = replace(rule.mosaic, originals=wide)
    choice = rule.choice(1)
    got = rule([(1, slot) for slot in range(3)])
    for image, (i, _, _, _, top, left, height, width) in zip(got, choice.tolist(), strict=True):
        window = wide(torch.tensor([i]))[0][:, top : top + height, left : left + width]
        exact = tv.resize(window.double(), [8, 8], antialias=True)
        assert float((image - exact).abs().max()) <= 0.51  # rounded to levels
    centers = rule.mosaic.choose(1, torch.arange(9, 21), 9)[:, 5] + 0.0
    assert bool((centers < 6).any())
    assert bool((centers > 8).any())


def test_patches_of_medium_loss_lie_around_the_median(chosen: Callable[..., Chosen], images: Tensor) -> None:
    surest = chosen("rded", 9, images=9, crops=3, folder="surest").choice(3)
    ranked = surest[:, 0].tolist()  # all nine images of the pool, by their best crop's loss
    medium_first = chosen("rded", 9, images=9, crops=3, folder="medium", rank="medium").choice(3)
    assert medium_first[:, 0].tolist() == [ranked[place] for place in (3, 2, 4, 1, 5, 0, 6, 7, 8)]


def test_a_range_of_areas_that_falls() -> None:
    with pytest.raises(
        ValueError, match=r"area must be \[low, high\] with 0 < low <= high, got \[0\.9, 0\.1\]"
    ):
        RDED(area=(0.9, 0.1))


def test_factor_by_size() -> None:
    for side, factor in ((32, 1), (64, 1), (128, 2), (224, 2)):
        assert mosaic.factor_of(RDED(), (side, side)) == factor
    assert mosaic.factor_of(RDED(factor=3), (32, 32)) == 3
    with pytest.raises(InputError, match=r"rded\.factor 9 cuts images of 8 x 8 pixels to nothing"):
        mosaic.factor_of(RDED(factor=9), (8, 8))


def test_chunks_do_not_change_the_choice(
    chosen: Callable[..., Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = chosen("rded", folder="whole").choice(1)
    monkeypatch.setattr(mosaic, "CHUNK", 12)
    assert torch.equal(chosen("rded", folder="again").choice(1), whole)
    assert len(whole) == 3


def test_a_mosaic_of_more_crops_than_images(chosen: Callable[..., Chosen]) -> None:
    with pytest.raises(
        InputError, match=r"3 images of class 'ant' out of 12 crops.*9 of its 9 images; lower ipc or"
    ):
        chosen("rded", factor=2)([(0, 0)])
    with pytest.raises(
        InputError, match=r"looks at 2 of its 9 images; lower ipc or rded\.factor, or raise rded\.imag"
    ):
        chosen("rded", images=2)([(0, 0)])


# -- real data, and through the pipeline ------------------------------------------------------------


def test_decoder_reads_what_the_run_sees(pets: Path) -> None:
    train = open_dataset(str(pets), "train")
    cpu = torch.device("cpu")
    once, stored = decoder(train, Data(size=4), cpu), decoder(train, Data(), cpu)
    positions = torch.tensor([9, 0, 9])
    assert torch.equal(once(positions, 1), pixels(train, (4, 4), 3, positions))
    assert torch.equal(once(positions, 2), pixels(train, (8, 8), 3, positions))
    assert torch.equal(stored(positions, 2), pixels(train, None, 3, positions))


def test_arms_that_start_from_chosen_images(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = pets_recipe(pets)
    text = file.read_text()
    arms = "arms: {rded: {method: rded}, herd: {init: herding, steps: 0}, inf: {method: infer, steps: 2}}"
    file.write_text(text[: text.index("arms:")] + arms + text[text.index("\nstudent:") :])
    recipe, out = resolve(str(file), ["teacher.epochs=1"]).recipe, tmp_path / "out"
    run(recipe, out, until="recover")
    experiment = check(recipe, out)
    made = Run(experiment, begin(experiment, out))
    real = experiment.real.images(experiment.real.train)[0]
    herd = made.distilled("herd")[0]
    assert herd.shape == (6, 3, 16, 16)
    for c in range(2):
        wanted = 8 * c + herding(made.bank.embeddings(c).double(), 3)
        assert torch.equal(herd[3 * c : 3 * c + 3], real[wanted])
    assert len(made.distilled("rded")[0]) == 6
    images, truth = made.distilled("inf")
    assert (
        truth.tolist() == [0] * 4 + [1] * 4
    )  # ipc 3, 2 classes, 1 teacher: 2 untouched and 2 with an offset
    assert torch.equal(images[[0, 1, 4, 5]], real[experiment.real.choose(2)])
    assert json.loads((tmp_path / "out" / "recover" / "inf" / "unit_00000.json").read_text())["losses"] == []


@pytest.mark.slow
def test_crops_of_photographs(test_data: Callable[[str], Path]) -> None:
    """The teacher knows nearly all chosen crops, and is surer of them than of whole images of the class."""
    train = open_dataset(str(test_data("cifar10.tar.xz")), "train")
    cpu = torch.device("cpu")
    weights = test_data("teachers") / "cifar10jpeg_resnet20.safetensors"
    teacher = load_teacher(weights, Teacher(), train.classes, 3, device=cpu)
    decode = decoder(train, Data(), cpu)
    originals = original_images(train, Data(), cpu)
    rule = mosaic.Mosaic(RDED(images=60), teacher, decode, originals, size=(32, 32), seed=SEED)
    positions = torch.arange(5000, 10000)
    choice = rule.choose(1, positions, 20)
    images = rule.cut(choice, 20, list(range(20)))
    truth = torch.ones(20, dtype=torch.long)
    losses = F.cross_entropy(teacher.network(teacher.normalize(images)), truth, reduction="none")
    whole = decode(choice[:, 0], 1)
    assert losses.mean() < 0.2 * F.cross_entropy(teacher.network(teacher.normalize(whole)), truth)
    assert (losses.diff() > -0.02).all()  # best first, but for the rounding to levels
    for image, (position, *_, top, left, height, width) in zip(images, choice.tolist(), strict=True):
        photograph = Image.fromarray(decode(torch.tensor([position]), 1)[0].permute(1, 2, 0).numpy())
        window = photograph.crop((left, top, left + width, top + height)).resize(
            (32, 32), Image.Resampling.BILINEAR
        )
        difference = (torch.from_numpy(np.array(window)).permute(2, 0, 1).int() - image.int()).abs()
        assert int(difference.max()) <= 1
