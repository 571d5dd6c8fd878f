"""Released recover loops beside ours: ``python benchmarks/fidelity.py --sre2l PATH --dire PATH ...``.

A PATH is a checkout of the authors' repository. Its loop is imported as it is and runs on the CPU for four
steps, from the same start and with the same rolls, crops and flips as ours, through the same network of
random weights. A row says how far apart the images in [0, 1] are, and how many numbers are as good as equal,

    rel = ||ours - released|| / ||released||        equal: share of numbers within 1e-4

Where a gradient is next to nothing, Adam makes a whole step of its rounding error, so some numbers differ.
``--float64`` shows that it is no more than that: both sides then compute in float64, and agree to 1e-13.

    --sre2l PATH   VILA-Lab/SRe2L: SRe2L's CIFAR script, and CDA's Tiny-ImageNet script
    --dire PATH    DIL-IITH/DiRe
    --dwa PATH     AngusDujw/Diversity-Driven-Synthesis, against both values of ``perturb.accumulate``
    --infer PATH   zhangxin-xd/UFC
    --lpld PATH    he-y/soft-label-pruning-for-dataset-distillation: its Tiny-ImageNet script; the statistics
                   of classes are drawn, the same for both
    --delt PATH    VILA-Lab/DELT
    --rded PATH    LINs-lab/RDED: crops, choice and tiles, which we round to grey levels
    --gvbsm PATH   shaoshitong/G_VBSM_Dataset_Condensation: its CIFAR-10 script with one teacher; the
                   statistics of convolutions are drawn, the same for both
    --edc PATH     shaoshitong/EDC: its CIFAR-10 script, likewise, with those of classes
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import cast
from unittest import mock

import torch
from fidelity_banks import SEED, ClassBank, RealBank, SpreadBank, random_network
from fidelity_sides import (
    STEPS,
    Agreement,
    ClassNorm,
    Ours,
    arguments,
    double_precision,
    dropped,
    imported,
    no_files,
    patches_of,
    saved_by,
    surroundings,
)
from torch import Tensor, nn

from fastdd.recover.init.rded import Mosaic
from fastdd.recover.terms.convolution import Convolution, Spectrum
from fastdd.runtime.seeds import generator

Found = Iterator[tuple[str, Agreement]]
"""name of a loop, and its images beside ours"""
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
"""mean and standard deviation of colors, as released loops write them"""


def given_start(start: Tensor, path: str) -> Tensor:
    """The initial images, whatever file is asked for."""
    return start


# -- methods ---------------------------------------------------------------------------------------


def sre2l(folder: Path) -> Found:
    ours = Ours("cifar100-sre2l", [], "resnet8", (100, 1, 32))
    module = imported(folder / "SRe2L" / "*small_dataset" / "recover_cifar.py")
    saved = saved_by(module)
    with surroundings(ours.rows(), ours.start(), no_files):
        module.get_images(arguments(ours, batch_size=100), ours.network(), None, 0)
    yield "SRe2L", ours.beside(saved[0])


def cda(folder: Path) -> Found:
    ours = Ours("tiny-cda", ["method.batch.classes=200"], "resnet8", (200, 1, 64))
    module = imported(folder / "CDA" / "recover_cda_tiny.py")
    saved = saved_by(module)
    given = arguments(ours, batch_size=200, milestone=1, easy2hard_mode="cosine")
    with surroundings(ours.rows(), ours.start(), no_files):
        module.get_images(given, ours.network(), None, 0)
    yield "CDA", ours.beside(saved[0])


def dire(folder: Path) -> Found:
    classes, each, several = 5, 4, 20
    real = [torch.rand(several, 512, generator=generator(SEED, "embeddings", c)) for c in range(100)]
    small = [f"method.batch.classes={classes}", f"method.batch.slots={each}"]
    shape, bank = (classes, each, 32), RealBank(real)
    ours = Ours("cifar100-dire", small, "resnet18_small", shape, bank, constants=CIFAR100)
    module = imported(folder / "SRe2L" / "CIFAR100" / "recover_cifar_regularized.py")
    saved, start, network = saved_by(module, "save_images_multiple"), ours.start(), ours.network()

    def files(path: str) -> Tensor:
        number = int(Path(path).stem.split("_")[-1])
        return real[number] if "class" in path else start[number * each : (number + 1) * each]

    network.avgpool.register_forward_hook(module.get_activation("avgpool"))  # type: ignore[union-attr]
    own = {"IPC": each, "start_class_id": 0, "ipc_start": 0, "init_path": "", "device": "cpu"}
    own |= {"multiplier": 0.1, "r_cos": 1.0, "r_euc": 0.01}
    with surroundings(ours.rows(), start, files):
        module.get_images(arguments(ours, batch_size=classes, **own), network, None)
    yield "DiRe", ours.beside(saved[0])


def dwa(folder: Path) -> Found:
    for accumulate in ("true", "false"):
        more = [f"method.perturb.accumulate={accumulate}"]
        ours = Ours("cifar10-dwa", more, "resnet8", (10, 1, 32), constants=CIFAR10)
        module = imported(folder / "distillation" / "distillation_cifar.py")
        saved, start = saved_by(module), ours.start()
        network = ours.network().requires_grad_(True)
        given = arguments(ours, batch_size=100, dataset="cifar10", init_path="", rho=0.015, steps=12)
        with surroundings(ours.rows(), start, partial(given_start, start)):
            module.get_images(given, network, None, 0)
        yield f"DWA, perturb.accumulate {accumulate}", ours.beside(saved[0])


def infer(folder: Path) -> Found:
    ours = Ours("cifar10-infer", [], "resnet8", (10, 2, 32), constants=CIFAR10)
    nets = {name: mock.MagicMock() for name in ("mobilenetv2", "efficientnet", "shufflenet")}
    module = imported(folder / "ufc_generation" / "ufc_cifar.py", **nets)
    saved, start = saved_by(module), ours.start()
    given = arguments(ours, batch_size=10, num_class=10, dataset="cifar10", init_path="", ipc_init=1)
    with surroundings(ours.rows(), start, partial(given_start, start)):
        module.get_images(given, [ours.network()], None, 1)
    yield "INFER", ours.beside(saved[0])


def lpld(folder: Path) -> Found:
    """One class of three; both sides are given the same statistics of classes."""
    classes, each, name = 3, 4, "resnet8"
    bank = ClassBank(random_network(name, classes), classes)
    given = ["method.batch.slots=4", "method.terms.bn.target=class_running"]
    ours = Ours("tiny-lpld", given, name, (classes, each, 64), bank, unit_images=1)
    module = imported(folder / "recover" / "data_synthesis_tiny_class.py")
    saved, network = saved_by(module, "custom_save_images"), ours.network()
    ClassNorm.put_into(network, bank)
    own = {"batch_size": each, "bn_hook_type": "class_stats_training", "store_last_images": True}
    ((c, _), *_) = ours.unit.rows
    with surroundings(ours.rows(), ours.start(), no_files):
        module.get_images(arguments(ours, **own), network, None, each, c)
    yield "LPLD", ours.beside(saved[0])


def delt(folder: Path) -> Found:
    small = ["method.init=real", "method.early_late.rounds=2", "method.batch.classes=3"]
    ours = Ours("cifar10-delt", small, "resnet8", (3, 4, 32), constants=CIFAR10)
    module = imported(folder / "recover" / "recover.py", models=mock.MagicMock())
    saved, network = saved_by(module), ours.network()
    own = {"dataset": "cifar10", "use_early_late": True, "round_iterations": STEPS // 2, "ipc": 4}
    own |= {"min_iterations": STEPS, "round_lr_reset": False, "milestone": 1, "easy2hard_mode": "cosine"}
    hooks = [module.BNFeatureHook(each) for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    targets = torch.tensor([c for c, _ in ours.unit.rows])
    counts = torch.full((3,), STEPS)
    with surroundings(ours.rows(), ours.start(), no_files):
        given = arguments(ours, input_size=32, **own)
        module.get_images(given, ours.start(), targets, network, hooks, counts, {})
    yield "DELT", ours.beside(saved[0])


def rded(folder: Path) -> Found:
    """Crops of images of three sizes, the choice among them, and tiles of 2 x 2."""
    images = [
        torch.randint(0, 256, (3, 40 + 3 * (i % 3), 50), generator=generator(SEED, "real", i)).to(torch.uint8)
        for i in range(20)
    ]
    ours = Ours(
        "imagenette-rded",
        ["method.steps=0", "method.rded.factor=2", "method.rded.images=15"],
        "resnet8",
        (10, 2, 32),
    )
    mosaic = Mosaic(
        ours.method.rded,
        ours.teacher,
        decode=lambda positions, times: torch.empty(0),
        originals=lambda positions: [images[i] for i in positions.tolist()],
        size=(32, 32),
        seed=SEED,
    )
    c, slots, config = 3, 2, ours.method.rded
    with torch.no_grad():
        made = mosaic.cut(mosaic.choose(c, torch.arange(20), slots), slots, [0, 1]).float() / 255
    random_of_class = generator(SEED, "rded", c)
    pool = torch.randperm(20, generator=random_of_class)[: config.images].tolist()
    windows = [
        window[3:]
        for i in pool
        for window in mosaic._draw(1, images[i].shape[1], images[i].shape[2], random_of_class)[0].tolist()
    ]
    module = imported(folder / "synthesize" / "utils.py", argument=SimpleNamespace(args=None))
    with surroundings([[0, 0, 0, *window] for window in windows], torch.empty(0), no_files):
        cut = module.MultiRandomCrop(num_crop=config.crops, size=32, factor=2)
        crops = torch.stack([module.normalize(cut(images[i].float() / 255)) for i in pool])
        network, labels = ours.teacher.network, torch.full((len(pool),), c)
        best = module.selector(slots * 4, network, crops, labels, 32, m=config.crops)
        tiles = module.denormalize(module.mix_images(best, 32, 2, slots))
    yield "RDED, rounded to grey levels", Agreement.of(made, tiles)


def generalized(
    ours: Ours, module: ModuleType, prefix: str, start: Tensor, rows: list[list[int]], **own: object
) -> Agreement:
    """One batch of G-VBSM's or EDC's loop beside ours.

    Args:
        module: the released file.
        prefix: what it puts before the name of a module in its names of files.
        start: what ``torch.randn`` returns.
        rows: what it draws.
        own: its arguments beside those that all have.
    """
    classes, ipc, _ = ours.shape
    bank, term = cast("SpreadBank", ours.bank), ours.method.terms["conv"]
    assert isinstance(term, Convolution)
    assert isinstance(term.real_batch, int)
    saved, (network, verifier) = saved_by(module), (ours.network(), ours.network())
    alone = SimpleNamespace(apply=lambda images: (images,))
    vars(module).update(GatherLayer=alone, dist=mock.MagicMock())
    with (
        TemporaryDirectory() as folder,
        mock.patch.object(torch.cuda, "set_device"),
        mock.patch.object(random, "random", iter(dropped(ours)).__next__),
        surroundings(rows, start, no_files),
    ):
        bank.write(Path(folder), f"{type(network).__name__}{prefix}", term.real_batch)
        given = {"batch_size": classes * ipc, "statistic_path": folder, "train_data_path": "", "rank": 0}
        given |= {"world_size": 1, "dist_backend": "", "dist_url": "", "r_loss": term.weight}
        given |= {"first_multiplier": term.first, "drop_rate": term.drop, "training_momentum": term.momentum}
        read = SimpleNamespace(store_best_images=True, iteration=STEPS, lr=ours.method.lr, **given, **own)
        module.main_worker(0, 1, read, [network], verifier, list(range(ipc)))
    return ours.beside(saved[0])


BRANCH = Path("Branch_CIFAR_10", "recover")


def gvbsm(folder: Path) -> Found:
    """One teacher, whose statistics are drawn; another one of the same weights is the verifier."""
    bank = SpreadBank("resnet8", 10, side=32, patch=4)
    ours = Ours("cifar10-gvbsm", [], "resnet8", (10, 2, 32), bank, constants=CIFAR100)
    name = "data_synthesis_with_svd_with_db_with_all_statistic.py"
    nets = {"models": mock.MagicMock(), "baseline": mock.MagicMock()}
    module = imported(folder / BRANCH / name, einops=SimpleNamespace(rearrange=patches_of), **nets)
    nuc = ours.method.terms["nuc"]
    assert isinstance(nuc, Spectrum)
    own = {"nuc_norm": nuc.weight, "tau": nuc.tau, "jitter": ours.method.augment.roll[1]}
    yield "G-VBSM", generalized(ours, module, "", ours.start(), ours.rows(), **own)


def edc(folder: Path) -> Found:
    """As G-VBSM; the released loop augments a second set of images in each step, which it does not use."""
    bank = SpreadBank("resnet8", 10, side=32, patch=4)
    ours = Ours("cifar10-edc", [], "resnet8", (10, 2, 32), bank, constants=CIFAR100)
    nets = {"models": mock.MagicMock(), "baseline": mock.MagicMock()}
    module = imported(folder / BRANCH / "recover.py", einops=SimpleNamespace(rearrange=patches_of), **nets)
    images = iter(ours.start())
    cache = SimpleNamespace(random_img_sample=lambda _: next(images).clone())
    vars(module).update(PreImgPathCache=lambda *_, **__: cache)
    own = {"aux_teacher": ["random"], "category_aware": "global", "initial_img_dir": "", "ema_alpha": 0.99}
    own |= {"flatness": False, "flatness_weight": 1.0}
    twice = [row for row in ours.rows() for _ in range(2)]
    yield "EDC", generalized(ours, module, "_random", torch.empty(0), twice, **own)


METHODS: dict[str, tuple[Callable[[Path], Found], ...]] = {
    "sre2l": (sre2l, cda),
    "dire": (dire,),
    "dwa": (dwa,),
    "infer": (infer,),
    "lpld": (lpld,),
    "delt": (delt,),
    "rded": (rded,),
    "gvbsm": (gvbsm,),
    "edc": (edc,),
}


def main() -> None:
    """Run the loops whose checkouts are given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name in METHODS:
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"a checkout of {name}'s repository")
    parser.add_argument("--float64", action="store_true", help="both sides in float64")
    given = parser.parse_args()
    chosen = [(name, getattr(given, name)) for name in METHODS if getattr(given, name) is not None]
    if not chosen:
        parser.error(f"give a checkout, such as --{next(iter(METHODS))} PATH")
    print(f"{'loop, 4 steps':36} {'rel':>9} {'equal':>7}")
    with double_precision() if given.float64 else nullcontext():
        for name, folder in chosen:
            for compare in METHODS[name]:
                for loop, (rel, equal) in compare(folder):
                    print(f"{loop:36} {rel:9.1e} {equal:7.3f}", flush=True)


if __name__ == "__main__":
    main()
