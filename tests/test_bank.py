"""The bank: exact statistics, forms on disk, one class at a time, resuming, sharing, merging."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from galleries import gallery, pixels, random_teacher, real_images
from torch import Tensor, nn

from fastdd.bank import Bank, Kept, build, is_whole, merge
from fastdd.bank.class_statistics import running_statistics
from fastdd.config import Bank as BankConfig
from fastdd.data import Loader, open_dataset, open_loader
from fastdd.data.real_data import TrainingImages
from fastdd.errors import InputError
from fastdd.runtime.files import remove_leftovers
from fastdd.teachers import Teacher, layer_names
from fastdd_kernels import LowRankCovariance, unpack_symmetric
from fastdd_kernels.symmetric import dense_covariance

HERE = Path(__file__).parent
CLASSES = ("ant", "bee", "cow", "doe", "eel")
COUNTS = (7, 3, 12, 1, 5)
BATCH = 4


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return random_teacher("resnet8", CLASSES)


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    return gallery(COUNTS)


def layers(teacher: Teacher) -> list[str]:
    return [*layer_names(teacher.network, "blocks"), *layer_names(teacher.network, "bn_inputs")]


def config(**changes: Any) -> BankConfig:
    return BankConfig(batch=BATCH, **changes)


def kept(teacher: Teacher, **changes: Any) -> Kept:
    return Kept.of(teacher.network, config(**changes), layers(teacher), seed=0)


def made(folder: Path, teacher: Teacher, data: TrainingImages, settings: BankConfig | None = None) -> Bank:
    chosen = Kept.of(teacher.network, settings or config(), layers(teacher), seed=0)
    assert build(folder, teacher, data, chosen, fingerprint="t")
    return Bank.open(folder)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Exact:
    """Two-pass float64 statistics through hooks: BatchNorm inputs, block outputs and the embedding."""

    def __init__(self, teacher: Teacher, images: Tensor) -> None:
        network = random_teacher("resnet8", CLASSES).network
        network.load_state_dict(teacher.network.state_dict())
        network = network.double().eval()
        self.maps: dict[str, Tensor] = {}
        for kind in ("blocks", "bn_inputs"):
            for name, path in layer_names(network, kind).items():
                network.get_submodule(path).register_forward_hook(self._keep(name, kind == "bn_inputs"))
        last = next(m for m in network.modules() if isinstance(m, nn.Linear))
        last.register_forward_hook(self._keep("embedding", True))
        mean, std = (
            torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (teacher.card.mean, teacher.card.std)
        )
        with torch.no_grad():
            network((images.double() / 255 - mean) / std)

    def _keep(self, name: str, is_input: bool) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.maps[name] = inputs[0] if is_input else output

        return hook

    def gaussian(self, layer: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.maps[layer][rows].mean((2, 3))
        centered = pooled - pooled.mean(0)
        return pooled.mean(0), centered.T @ centered / len(pooled)


def assert_close(actual: Tensor, exact: Tensor, tolerance: float = 1e-5) -> None:
    assert actual.shape == exact.shape
    assert (actual.double() - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=1e-3)


# -- what it says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [config(), config(form="full"), config(compile=True)], ids=["packed", "full", "compiled"]
)
def test_statistics_are_those_of_two_passes_in_float64(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path, settings: BankConfig
) -> None:
    images, labels = pictures
    bank = made(tmp_path / "bank", teacher, real_images(images, labels, BATCH), settings)
    exact = Exact(teacher, images)
    assert (bank.classes, bank.counts) == (CLASSES, COUNTS)
    assert bank.layers == {name: exact.maps[name].shape[1] for name in layers(teacher)}
    for c in range(len(CLASSES)):
        rows = labels == c
        for layer in bank.layers:
            mean, covariance = exact.gaussian(layer, rows)
            got_mean, got_covariance = bank.gaussian(layer, [c])
            assert_close(got_mean[0], mean)
            assert_close(dense_covariance(got_covariance)[0], covariance)
        assert_close(bank.embeddings(c), exact.maps["embedding"][rows], 1e-3)  # half precision
        assert bank[c].count == COUNTS[c]
        assert bank[c].name == CLASSES[c]


def test_class_batch_norm_holds_all_pixels_of_all_images(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    images, labels = pictures
    bank = made(tmp_path / "bank", teacher, real_images(images, labels, BATCH), config(class_bn="true"))
    exact = Exact(teacher, images)
    for layer in layer_names(teacher.network, "bn_inputs"):
        mean, var = bank.class_batch_norm(layer, range(len(CLASSES)))
        for c in range(len(CLASSES)):
            pixels = exact.maps[layer][labels == c].transpose(0, 1).flatten(1)
            assert_close(mean[c], pixels.mean(1))
            assert_close(var[c], pixels.var(1, unbiased=False))


@pytest.mark.parametrize("group", [1, 2, 3])
def test_running_statistics_are_lplds_recursion(group: int) -> None:
    maps = torch.randn(7, 4, 3, 3, dtype=torch.float64) + torch.randn(7, 4, 1, 1, dtype=torch.float64)
    shift = torch.randn(4, dtype=torch.float64)
    means, squares = maps.mean((2, 3)), (maps - shift[:, None, None]).square().mean((2, 3))
    got = running_statistics(means, squares, shift, group=group, random=torch.Generator().manual_seed(3))
    mean, var = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for rows in torch.randperm(7, generator=torch.Generator().manual_seed(3)).split(group):
        pixels = maps[rows].transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * pixels.mean(1)
        var = 0.9 * var + 0.1 * pixels.var(1, unbiased=False)
    torch.testing.assert_close(got, (mean, var))


def test_low_rank_keeps_variances_and_says_what_it_discards(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH)
    whole = made(tmp_path / "whole", teacher, data)
    bank = made(tmp_path / "low", teacher, data, config(form="lowrank", rank=2))
    for layer in bank.layers:
        _, low = bank.gaussian(layer, range(len(CLASSES)))
        assert isinstance(low, LowRankCovariance)
        assert low.factor.shape[2] == 2
        exact = unpack_symmetric(whole.gaussian(layer, range(len(CLASSES)))[1])  # type: ignore[arg-type]
        dense = dense_covariance(low)
        assert_close(dense.diagonal(dim1=1, dim2=2), exact.diagonal(dim1=1, dim2=2).double(), 1e-4)
        lost = (dense - exact).square().sum((1, 2)) / exact.square().sum((1, 2)).clamp(min=1e-30)
        assert bank.manifest["discarded"][layer]["largest"] == pytest.approx(
            lost.max().item(), rel=1e-3, abs=1e-9
        )


def test_bfloat16_is_half_the_size(teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    data = real_images(*pictures, BATCH)
    wide, narrow = (
        made(tmp_path / d, teacher, data, config(dtype=d, embeddings=0)) for d in ("fp32", "bf16")
    )
    sizes = [sum(p.stat().st_size for p in bank.path.glob("classes*")) for bank in (wide, narrow)]
    assert sizes[1] < 0.6 * sizes[0]
    exact, rounded = (dense_covariance(bank.gaussian("blocks.0", [2])[1]) for bank in (wide, narrow))
    assert_close(rounded, exact.double(), 2**-8)


def test_a_seeded_choice_of_embeddings(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH)
    everything = made(tmp_path / "all", teacher, data)
    some, again = (made(tmp_path / name, teacher, data, config(embeddings=4)) for name in ("some", "again"))
    for c, count in enumerate(COUNTS):
        rows = {tuple(row) for row in everything.embeddings(c).tolist()}
        assert len(some.embeddings(c)) == min(4, count)
        assert {tuple(row) for row in some.embeddings(c).tolist()} <= rows
        assert torch.equal(some.embeddings(c), again.embeddings(c))
    none = made(tmp_path / "none", teacher, data, config(embeddings=0))
    with pytest.raises(InputError, match="has no embeddings; build it with"):
        none.embeddings(0)


def test_any_other_order_is_right_too(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    images, labels = pictures
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    ordered = real_images(images, labels, BATCH)
    shuffled = replace(ordered, stream=lambda _: real_images_at(images, labels, order))
    a = made(tmp_path / "a", teacher, ordered)
    assert build(tmp_path / "b", teacher, shuffled, kept(teacher), fingerprint="t")
    b = Bank(tmp_path / "b")
    for c in range(len(CLASSES)):
        for name, tensor in a[c].tensors.items():
            assert_close(b[c].tensors[name], tensor.double(), 1e-3 if name == "embeddings" else 2e-6)


def real_images_at(images: Tensor, labels: Tensor, order: Tensor) -> Any:
    from fastdd.data.loading.batch import Batch

    return (Batch(images[rows], labels[rows], rows, ()) for rows in order.split(BATCH))


# -- files -------------------------------------------------------------------------------------------


def test_one_class_is_read_and_no_other(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    bank = made(tmp_path / "bank", teacher, real_images(*pictures, BATCH))
    wanted = {name: tensor.clone() for name, tensor in bank[2].tensors.items()}
    (file,) = bank.path.glob("classes-*")
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    spoilt = bytearray(data[:header] + b"\xff" * (len(data) - header))
    entries = {k: v for k, v in json.loads(data[8:header]).items() if k != "__metadata__"}
    for name, entry in entries.items():
        start, stop = (header + offset for offset in entry["data_offsets"])
        size = (stop - start) // entry["shape"][0]
        first, count = (sum(COUNTS[:2]), COUNTS[2]) if name == "embeddings" else (2, 1)
        own = slice(start + first * size, start + (first + count) * size)
        spoilt[own] = data[own]
    file.write_bytes(spoilt)
    again = Bank(tmp_path / "bank")[2].tensors
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)


def test_files_hold_ranges_of_classes(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH)
    whole = made(tmp_path / "whole", teacher, data)
    assert sorted(content(whole.path)) == ["classes-00000-00004.safetensors", "manifest.json"]
    per_class = sum(tensor.nbytes for name, tensor in whole[0].tensors.items() if name != "embeddings")
    cut = made(tmp_path / "cut", teacher, data, config(shard_mb=2.5 * per_class / 1e6))
    assert sorted(content(cut.path))[:-1] == [
        f"classes-0000{a}-0000{b}.safetensors" for a, b in ((0, 1), (2, 3), (4, 4))
    ]
    for c in range(len(CLASSES)):
        ours, theirs = cut[c].tensors, whole[c].tensors
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_teacher_or_data_set_is_refused(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    bank = made(tmp_path / "bank", teacher, real_images(*pictures, BATCH))
    bank.require("t", "d")
    with pytest.raises(InputError, match="another teacher: its fingerprint is t, this run's is other"):
        bank.require("other", "d")
    with pytest.raises(InputError, match="another data: its fingerprint is d, this run's is other"):
        bank.require("t", "other")


def test_no_bank_and_an_unfinished_one(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no finished bank; build it with `fastdd bank RECIPE`"):
        Bank(tmp_path)
    data = real_images(*pictures, BATCH)
    assert not build(tmp_path, teacher, data, kept(teacher), fingerprint="t", classes=range(1, 3))
    with pytest.raises(InputError, match="it was begun; the same command finishes it"):
        Bank(tmp_path)
    with pytest.raises(InputError, match='begun with another form: "packed" there, "full" now'):
        build(tmp_path, teacher, data, kept(teacher, form="full"), fingerprint="t")
    with pytest.raises(InputError, match='begun with another teacher: "t" there, "u" now'):
        build(tmp_path, teacher, data, kept(teacher), fingerprint="u")


# -- images that cannot be read ----------------------------------------------------------------------


def test_skipped_images_are_counted_and_named(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    images, labels = pictures
    bad = (0, 9, 21)  # the first of a class, the last of one, one within
    bank = made(tmp_path / "bank", teacher, real_images(images, labels, BATCH, unreadable=bad))
    assert bank.counts == (6, 2, 11, 1, 5)
    assert bank.manifest["images"] == list(COUNTS)
    assert bank.manifest["skipped"] == ["0/0", "1/9", "2/21"]
    good = torch.tensor([i not in bad for i in range(len(labels))])
    without = made(tmp_path / "without", teacher, real_images(images[good], labels[good], BATCH))
    for c in range(len(CLASSES)):
        for name, tensor in without[c].tensors.items():
            assert_close(bank[c].tensors[name], tensor.double(), 1e-3 if name == "embeddings" else 2e-6)


def test_a_class_without_a_readable_image(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH, unreadable=(22,))
    with pytest.raises(InputError, match="none of the 1 images of class 3 could be read"):
        build(tmp_path, teacher, data, kept(teacher), fingerprint="t")


# -- resuming, sharing, merging ----------------------------------------------------------------------


def test_array_jobs_give_the_same_bytes(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH)
    wanted = content(made(tmp_path / "one", teacher, data).path)
    for job in (range(3, 5), range(1), range(1, 3)):
        assert not is_whole(tmp_path / "jobs")
        build(tmp_path / "jobs", teacher, data, kept(teacher), fingerprint="t", classes=job)
    assert content(tmp_path / "jobs") == wanted


PROGRAM = """
import os, random, signal, sys, time
folder, kills = sys.argv[1], int(sys.argv[2])
sys.path[:0] = sys.argv[3:]
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_bank import BATCH, CLASSES, COUNTS, kept
from galleries import gallery, random_teacher, real_images
from fastdd.bank import build, is_whole
teacher, data = random_teacher("resnet8", CLASSES), real_images(*gallery(COUNTS), BATCH)

def make(path):
    return build(path, teacher, data, kept(teacher), fingerprint="t")

if __name__ == "__main__" and not kills:
    make(Path(folder))
    sys.exit()
moments, done, number, seconds = random.Random(0), 0, 0, 0.0
while done < kills:
    path = Path(folder, str(number))
    start, child = time.perf_counter(), os.fork()
    if not child:
        make(path)
        os._exit(0)
    if number:  # the first shows how long it takes
        time.sleep(moments.uniform(0.0, seconds))
        os.kill(child, signal.SIGKILL)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    done += killed
    seconds = seconds or time.perf_counter() - start
    number += is_whole(path)
"""


def test_killed_twenty_times_it_ends_with_the_same_bytes(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path, one_thread: None
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = forked.start(tmp_path / "program.py", tmp_path / "killed", 20, HERE)
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    wanted = content(made(tmp_path / "whole", teacher, real_images(*pictures, BATCH)).path)
    finished = [folder for folder in sorted((tmp_path / "killed").iterdir()) if is_whole(folder)]
    assert len(finished) > 1  # the first is undisturbed
    for folder in finished:
        remove_leftovers([folder])  # as opening a run does
        assert content(folder) == wanted


def test_two_processes_build_the_same_bank(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path, one_thread: None
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    forked.together(tmp_path / "program.py", tmp_path / "two", 0, HERE)
    one = made(tmp_path / "one", teacher, real_images(*pictures, BATCH))
    assert content(tmp_path / "two") == content(one.path)


def test_banks_of_other_classes_merge_to_the_same_bytes(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    data = real_images(*pictures, BATCH)
    wanted = content(made(tmp_path / "one", teacher, data).path)
    for name, job in (("a", range(2)), ("b", range(2, 5))):
        build(tmp_path / name, teacher, data, kept(teacher), fingerprint="t", classes=job)
    assert merge([tmp_path / "b", tmp_path / "a"], tmp_path / "merged")
    assert content(tmp_path / "merged") == wanted
    assert not merge([tmp_path / "a"], tmp_path / "half")
    with pytest.raises(InputError, match="is not empty"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    with pytest.raises(InputError, match="two of the banks hold class 'ant' of the same data set"):
        merge([tmp_path / "a", tmp_path / "one"], tmp_path / "twice")


@pytest.mark.parametrize("form", ["full", "packed"])
def test_banks_of_other_images_merge_by_chans_rule(teacher: Teacher, tmp_path: Path, form: str) -> None:
    images, labels = gallery((8, 5, 6, 4, 9))
    settings = config(form=form, class_bn="true")
    half = torch.arange(len(labels)) % 2 == 0
    parts = []
    for name, rows in (("even", half), ("odd", ~half)):
        made(tmp_path / name, teacher, real_images(images[rows], labels[rows], BATCH, name), settings)
        parts.append(tmp_path / name)
    assert merge(parts, tmp_path / "merged")
    merged, whole = (
        Bank(tmp_path / "merged"),
        made(tmp_path / "all", teacher, real_images(images, labels, BATCH), settings),
    )
    assert merged.counts == whole.counts == (8, 5, 6, 4, 9)
    for c in range(len(CLASSES)):
        for name, tensor in whole[c].tensors.items():
            if name != "embeddings":
                assert_close(merged[c].tensors[name], tensor.double(), 2e-6)
        assert len(merged.embeddings(c)) == whole.counts[c]


def test_banks_that_do_not_belong_together(
    teacher: Teacher, pictures: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    for name, settings in (("a", config()), ("b", config(form="lowrank"))):
        made(tmp_path / name, teacher, real_images(*pictures, BATCH, name), settings)
    with pytest.raises(InputError, match=r"differs from .* in form; only alike banks can be merged"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    made(tmp_path / "d", teacher, real_images(*pictures, BATCH, "d"), config(form="lowrank"))
    with pytest.raises(InputError, match="only with form full or packed"):
        merge([tmp_path / "b", tmp_path / "d"], tmp_path / "e")
    assert not [path for path in tmp_path.iterdir() if path.name.strip("bad")]  # nothing was left behind
    assert merge([tmp_path / "b"], tmp_path / "e")  # the corrected command works
    with pytest.raises(InputError, match="holds no bank"):
        merge([tmp_path / "a", tmp_path], tmp_path / "f")


# -- real photographs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_photographs_through_a_resnet18(test_data: Callable[[str], Path], tmp_path: Path) -> None:
    """At 224 x 224, as the engine reads them, against two passes in float64 over a float64 network."""
    everything = open_dataset(test_data("imagenette224.tar"), "train")
    first = [sum(everything.counts[:c]) for c in range(len(everything.classes))]
    wanted = {start + k for start in first for k in range(4)}
    dataset = everything.without(set(range(len(everything))) - wanted)
    teacher = random_teacher("resnet18", dataset.classes)

    def stream(positions: range) -> Loader:
        return open_loader(dataset, 16, None, indices=positions)

    data = TrainingImages((3, 224, 224), dataset.labels, dataset.names, "d", {}, stream)
    blocks = list(layer_names(teacher.network, "blocks"))
    chosen = Kept.of(teacher.network, BankConfig(batch=16), blocks, seed=0)
    assert build(tmp_path / "bank", teacher, data, chosen, fingerprint="t")
    bank, exact = Bank(tmp_path / "bank"), {}
    network = copy.deepcopy(teacher.network).double()
    for name, path in layer_names(network, "blocks").items():
        network.get_submodule(path).register_forward_hook(
            lambda m, x, y, name=name: exact.update({name: y.mean((2, 3))})
        )
    images = pixels(dataset, None)
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (teacher.card.mean, teacher.card.std)
    )
    with torch.no_grad():
        network((images.double() / 255 - mean) / std)
    assert bank.counts == (4,) * 10
    for layer, c in itertools.product(blocks, range(10)):
        rows = exact[layer][4 * c : 4 * c + 4]
        got_mean, got = bank.gaussian(layer, [c])
        assert_close(got_mean[0], rows.mean(0))
        assert_close(dense_covariance(got)[0], (rows - rows.mean(0)).T @ (rows - rows.mean(0)) / 4)
