"""What ``fastdd check`` finds in a set: test images, repetitions, imbalance, empty images, wrong claims."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import write_png

from fastdd.cli import main
from fastdd.data import open_dataset
from fastdd.distilled import list_set, open_set
from fastdd.evaluate.leaks import Copy, Searched
from fastdd.evaluate.validity import ScannedSet, check_set, claim_findings, image_findings, near_finding
from fastdd.export import export


def natural(count: int, seed: int, side: int = 32) -> Tensor:
    """Smooth random images, uint8 [count, 3, side, side], that are unlike one another."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 255).byte()


def jpeg(image: Tensor, quality: int) -> Tensor:
    content = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "JPEG", quality=quality)
    return torch.tensor(list(Image.open(content).tobytes())).view(32, 32, 3).permute(2, 0, 1).byte()


def batches(images: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(size), torch.arange(len(images)).split(size), strict=True))


def copies(images: Tensor, shown: list[tuple[Tensor, Tensor]]) -> list[Copy]:
    searched = Searched.of([images] if len(images) else [], lambda rows: images[rows])
    for batch in shown:
        searched.compare(*batch)
    return [searched.copies[row] for row in sorted(searched.copies)]


def test_copies_are_found_saved_anew_and_mirrored_and_nothing_else() -> None:
    test, own = natural(60, seed=1), natural(20, seed=2)
    own[3], own[7], own[11] = test[40], jpeg(test[5], 60), test[59].flip(2)
    found = copies(own, batches(test, 25))
    assert [(each.image, each.test, each.mirrored) for each in found] == [
        (3, 40, False),
        (7, 5, False),
        (11, 59, True),
    ]
    assert found[0].distance == 0
    assert 0 < found[1].distance < 0.2


def test_of_several_test_images_the_nearest_is_named_whatever_the_batches() -> None:
    test = natural(30, seed=1)
    test[20] = test[4] // 2 + test[4] // 2  # one grey level off at odd values
    own = test[4:5]
    for size in (7, 30):
        (copy,) = copies(own, batches(test, size))
        assert copy.test == 4


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 1, 5, 9), (0, 3, 8, 8)])
def test_small_grey_and_no_images(shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).byte()
    found = copies(images, batches(images, 1) if len(images) else [])
    assert [each.test for each in found] == list(range(len(images)))


def test_images_far_nearer_to_test_images_than_to_training_images_are_a_fault() -> None:
    random = torch.Generator().manual_seed(0)
    test, train, own = (torch.randn(count, 16, generator=random) for count in (600, 600, 100))
    for honest in (own, train[:100], torch.zeros(10, 16)):
        assert near_finding(honest, test, train) == []
    (finding,) = near_finding(torch.cat([own[:50], test[:50] + 1e-3]), test, train)
    assert finding.kind == "fault"
    assert finding.text.startswith(
        "50 of 100 images are far nearer to a test image, in the teacher's embeddings"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Tensor, list[str]], Path]:
    """Writes images into folders by class."""

    def write(images: Tensor, names: list[str]) -> Path:
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            write_png(image, str(tmp_path / "set" / name / f"{number}.png"))
        return tmp_path / "set"

    return write


def test_what_a_set_shows_by_itself(folder: Callable[[Tensor, list[str]], Path]) -> None:
    images = natural(6, seed=3)
    images[1] = images[0]
    images[2] = 128
    images[3] = (images[3] > 128).byte() * 255
    listed = list_set(folder(images, ["a", "a", "a", "a", "b", "b"]))
    scanned = ScannedSet.of(listed)
    every = [*claim_findings(listed, ["a", "b", "c"]), *image_findings(scanned)]
    found = {finding.text: finding.kind for finding in every}
    assert found == {
        "1 class of 3 have no images": "fault",
        "classes have unlike numbers of images: 'b' 2, 'a' 4": "fault",
        "1 of 6 images repeat others of the set: a/0.png and a/1.png": "fault",
        "1 image of one color: a/2.png": "fault",
        "1 image with most of their values at 0 or 255, as 0.0% of the test images have: a/3.png": "note",
    }
    usual = image_findings(scanned, usual=0.2)
    assert all("most of" not in finding.text for finding in usual)


def test_soft_labels_that_repeat_or_mean_other_classes(folder: Callable[[Tensor, list[str]], Path]) -> None:
    distilled = list_set(folder(natural(4, seed=3), ["a", "a", "b", "b"]))
    right = torch.tensor([[2.0, 0], [3, 0], [0, 2], [0, 3]]).half()
    assert claim_findings(replace(distilled, logits=right), ["a", "b"]) == []
    (repeated,) = claim_findings(replace(distilled, logits=right[[0, 0, 2, 2]]), ["a", "b"])
    assert repeated.text == "4 images have 2 soft labels in all"
    (other,) = claim_findings(replace(distilled, logits=right.flip(1)), ["a", "b"])
    assert other.text.startswith("soft labels mean the class of their folder for 0% of the images alone")


def test_a_run_is_checked_and_changed_images_are_a_fault(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["check", str(run), "--arm", "deda"]) == 0
    assert "by pixels and embeddings of teacher resnet8" in capsys.readouterr().out
    test = open_dataset("digits", "test")
    distilled = open_set(run, "deda", channels=1)
    file = distilled.path / distilled.ids[0]
    Image.fromarray(_digit(test, 5)).save(file)
    assert main(["check", str(run), "--arm", "deda"]) == 1
    out = capsys.readouterr().out
    assert (
        f"leak: 1 of {len(distilled)} images are copies of test images, or next to them: {distilled.ids[0]}"
        in out
    )
    assert "fault: its run's results are of other images" in out


def _digit(test: object, place: int) -> object:
    from fastdd.data import open_loader

    loader = open_loader(test, 1, None, 1, indices=[place], backend="torchvision")  # type: ignore[arg-type]
    return next(iter(loader)).images[0, 0].numpy()


def test_an_export_whose_files_are_not_those_of_its_card(finished: Path, tmp_path: Path) -> None:
    export(open_set(finished, "deda", channels=1), "imagefolder", tmp_path / "set")
    splits = [open_dataset("digits", split) for split in ("train", "test")]
    distilled = open_set(tmp_path / "set", channels=1)
    assert check_set(list_set(tmp_path / "set", channels=1), *splits) == []
    (distilled.path / distilled.ids[0]).unlink()
    found = check_set(list_set(tmp_path / "set", channels=1), *splits)
    assert any(f"but there are {len(distilled) - 1}" in finding.text for finding in found)


def test_a_set_of_no_run_needs_its_real_images(
    folder: Callable[[Tensor, list[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(natural(2, seed=3), ["0", "1"])
    assert main(["check", str(path)]) == 2
    assert "give --real ROOT" in capsys.readouterr().err
