"""Images from elsewhere that arms start from: folders, archives, exports and Parquet files."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.io import encode_png

import fastdd
from fastdd.config import Data, Method
from fastdd.data.dataset import Dataset
from fastdd.distilled import open_set
from fastdd.distilled.candidates import open_candidates
from fastdd.errors import InputError
from fastdd.evaluate import embed
from fastdd.export.forms import export
from fastdd.recipes.resolve import resolve
from fastdd.recover.init.selection import kmeans
from fastdd.runs.experiment import check
from fastdd.runs.pipeline import begin
from fastdd.runs.run import Run
from fastdd.runtime.seeds import derive

CLASSES = ("cat", "dog")


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Five images of 20 x 24 pixels of each class of the pets, as a generator might make them."""
    random = torch.Generator().manual_seed(1)
    for label, name in enumerate(CLASSES):
        (tmp_path / "generated" / name).mkdir(parents=True)
        for i in range(5):
            image = torch.randint(0, 128, (3, 20, 24), generator=random, dtype=torch.uint8)
            image[label] += 127
            (tmp_path / "generated" / name / f"g{i}.png").write_bytes(bytes(encode_png(image).numpy()))
    return tmp_path / "generated"


@pytest.fixture
def recipe(pets: Path, pets_recipe: Callable[[Path], Path]) -> Callable[[str], str]:
    """The pets with arms of the caller's."""

    def write(arms: str) -> str:
        file = pets_recipe(pets)
        text = file.read_text()
        file.write_text(
            f"{text[: text.index('arms:')]}arms: {arms}{text[text.index(chr(10) + 'student:') :]}"
        )
        return str(file)

    return write


def opened(path: Path | str, classes: tuple[str, ...] = CLASSES, **data: object) -> Dataset:
    return open_candidates(str(path), classes, Data.model_validate(data), key="arms.a.candidates")


def made(recipe: str, out: Path) -> Run:
    """The run in a folder, at work."""
    resolved = resolve(recipe, ["teacher.epochs=1"]).recipe
    experiment = check(resolved, out)
    return Run(experiment, begin(experiment, out))


# -- a run -------------------------------------------------------------------------------------------


def test_a_folder_is_chosen_from_by_the_rules_and_resized_by_the_rule_of_the_data(
    recipe: Callable[[str], str], generated: Path, tmp_path: Path
) -> None:
    file = recipe(
        f"{{all: {{init: {generated}, steps: 0}}, first: {{init: first, candidates: {generated}, steps: 0}}, "
        f"means: {{init: kmeans, candidates: {generated}, steps: 0}}, "
        f"deda: {{method: deda, init: herding, candidates: {generated}, steps: 2}}}}"
    )
    out = tmp_path / "out"
    fastdd.run(file, out, ["teacher.epochs=1"], until="recover")
    run = made(file, out)
    found = run.experiment.candidates["first"]
    assert found.classes == CLASSES
    everything = run.experiment.real.images(found)[0]
    assert everything.shape == (10, 3, 16, 16)
    first, means, drawn = (run.distilled(arm)[0] for arm in ("first", "means", "all"))
    embeddings = embed(run.teacher, everything).double()
    for c in range(2):
        own = everything[5 * c : 5 * c + 5]
        assert torch.equal(first[3 * c : 3 * c + 3], own[:3])
        chosen = kmeans(embeddings[5 * c : 5 * c + 5], 3, derive(0, "kmeans", c))
        assert torch.equal(means[3 * c : 3 * c + 3], own[chosen])
        assert len({tuple(image.flatten().tolist()) for image in drawn[3 * c : 3 * c + 3]}) == 3
        assert all(_among(image, own) for image in drawn[3 * c : 3 * c + 3])
    assert len(run.distilled("deda")[0]) == 6


def _among(image: Tensor, images: Tensor) -> bool:
    return any(torch.equal(image, other) for other in images)


def test_a_changed_folder_is_noticed_on_resume(
    recipe: Callable[[str], str], generated: Path, tmp_path: Path
) -> None:
    file, out = recipe(f"{{a: {{init: {generated}, steps: 0}}}}"), tmp_path / "out"
    fastdd.run(file, out, ["teacher.epochs=1"], until="squeeze")
    shutil.copy(generated / "cat" / "g0.png", generated / "cat" / "g9.png")
    with pytest.raises(InputError, match="was made from another set of candidates of a: fingerprint"):
        fastdd.run(file, out, ["teacher.epochs=1"], until="recover")


def test_an_exported_set_is_the_start_of_another_run(
    recipe: Callable[[str], str], generated: Path, tmp_path: Path
) -> None:
    file, out = recipe(f"{{a: {{init: {generated}, steps: 0}}}}"), tmp_path / "out"
    fastdd.run(file, out, ["teacher.epochs=1"], until="recover")
    images = open_set(out).images
    folder = tmp_path / "folder"
    export(open_set(out), "imagefolder", folder)
    for place in (folder, out / "images" / "a"):
        again = recipe(f"{{b: {{init: first, candidates: {place}, steps: 0}}}}")
        other = tmp_path / f"of-{place.name}"
        fastdd.run(again, other, ["teacher.epochs=1"], until="recover")
        assert torch.equal(open_set(other).images, images)


# -- places ------------------------------------------------------------------------------------------


def test_archives_shards_and_parquet_files_hold_the_same_images(
    recipe: Callable[[str], str], generated: Path, tmp_path: Path
) -> None:
    folder = opened(generated)
    for name, inside in (("a.tar", ""), ("b.tar.gz", "top/"), ("c.tar", "top/train/")):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            for of_class in CLASSES:
                tar.add(generated / of_class, f"{inside}{of_class}")
        found = opened(tmp_path / name)
        assert (list(found.names), found.counts) == (list(folder.names), (5, 5))
        assert torch.equal(found.reader.pixels(7, 3), folder.reader.pixels(7, 3))
    pytest.importorskip("pyarrow")
    file, out = recipe(f"{{a: {{init: first, candidates: {generated}, steps: 0}}}}"), tmp_path / "out"
    fastdd.run(file, out, ["teacher.epochs=1"], until="recover")
    for form in ("parquet", "webdataset", "hf"):
        export(open_set(out), form, tmp_path / form)
        found = opened(tmp_path / form)
        assert found.counts == (3, 3)
        assert torch.equal(found.reader.pixels(4, 3), open_set(out).images[4])
    (one,) = (tmp_path / "parquet").glob("*.parquet")
    assert opened(one).counts == (3, 3)


def test_classes_are_matched_by_name_or_by_number(generated: Path) -> None:
    assert opened(generated, ("dog", "cat")).names[0] == "dog/g0.png"
    assert opened(generated, ("dog",)).counts == (5,)
    for label, name in enumerate(CLASSES):
        (generated / name).rename(generated / f"{label:03d}")
    assert opened(generated).names[5] == "001/g0.png"
    with pytest.raises(InputError, match="may be names of classes or their numbers, which differ"):
        opened(generated, ("001", "000"))


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.bad_input("candidates")
def test_what_cannot_be_used_is_refused_before_any_work(
    recipe: Callable[[str], str], generated: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"arms\.a\.candidates: there is nothing at .*did you mean"):
        opened(tmp_path / "generatde")
    with pytest.raises(InputError, match=r"2 classes \('cat', 'dog'\) and none of 'cow'"):
        opened(generated, ("cat", "cow", "dog"))
    file = recipe(f"{{a: {{init: {generated}, steps: 0}}}}")
    few = r"arms\.a\.candidates: .* has 5 images of class 'cat', but the arm starts from 6 of each"
    with pytest.raises(InputError, match=few):
        fastdd.run(file, tmp_path / "few", ["ipc=6"])
    with pytest.raises(InputError, match=r"have 20 x 24 pixels and the real ones 8 x 8; set data"):
        fastdd.run(file, tmp_path / "sizes", ["data.size=null"])
    (generated / "dog" / "g3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"dog/g3\.png .*; replace it .* data\.on_error=skip"):
        fastdd.run(file, tmp_path / "bad")
    assert opened(generated, on_error="skip").counts == (5, 4)
    assert not {"few", "sizes", "bad"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.bad_input("candidates")
def test_a_rule_and_a_place_go_together() -> None:
    for values, message in (
        ({"init": "random"}, "chooses among candidates, of which there are none"),
        ({"init": "real", "candidates": "x/"}, "candidates are images to start from, but init is real"),
        ({"candidates": "x/"}, "candidates are images to start from, but init is noise"),
        ({"init": "x/", "candidates": "y/"}, "both name images"),
    ):
        with pytest.raises(ValueError, match=message):
            Method.model_validate(values | {"steps": 0})
    method = Method.model_validate({"init": "x/", "steps": 0})
    assert (method.init, method.candidates) == ("random", "x/")


@pytest.mark.parametrize("packed", [False, True])
def test_images_that_a_dot_hides_are_told(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, packed: bool
) -> None:
    image = generated / "cat" / "g0.png"
    shutil.copy(image, generated / "cat" / ".g7.png")
    (generated / ".emu").mkdir()
    shutil.copy(image, generated / ".emu" / "g8.png")
    shutil.copy(image, generated / "cat" / "._g0.png")  # which macOS leaves behind
    place, name = generated, "generated/"
    if packed:
        place, name = tmp_path / "generated.tar", "generated.tar"
        with tarfile.open(place, "w") as archive:
            archive.add(generated, "generated")
    assert opened(place).counts == (5, 5)
    inside = "generated/" if packed else ""
    assert (
        f"note: 2 images of {name} are left out, since a name begins with a dot: '{inside}.emu/g8.png' and 1 "
        "more; rename what you want to use\n"
    ) in capsys.readouterr().err
