"""Teachers that torchvision and timm released: from the cache, downloaded where asked, with their classes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models
from torchvision.transforms._presets import ImageClassification

import fastdd
from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.run_folder import RunFolder, read_recipe
from fastdd.teachers import released as released_module
from fastdd.teachers.released import Released, released
from fastdd.teachers.weights import read_weights

KEY = "teacher.weights"
NETWORK = "shufflenet_v2_x0_5"
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def imagenet(network: str = "resnet18", name: str = "IMAGENET1K_V1") -> Released:
    found = released(KEY, f"torchvision:{name}", network)
    assert found is not None
    return found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch.hub's checkpoints, which is empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


@pytest.fixture
def released_pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Let torchvision have weights PETS_V1 of a small network, at a file: URL, for some classes."""

    def release(*categories: str) -> Path:
        torch.manual_seed(0)
        plain = tmp_path / "weights.pth"
        torch.save(build(NETWORK, len(categories)).state_dict(), plain)
        digits = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
        file = plain.rename(tmp_path / f"shuffle-{digits}.pth")
        transforms = partial(ImageClassification, crop_size=32, mean=MEAN, std=STD)
        value = models.Weights(file.as_uri(), transforms, {"categories": list(categories)})
        made = Enum("Pets", {"PETS_V1": value})  # type: ignore[misc]
        monkeypatch.setattr(models, "get_model_weights", lambda name: made)
        return file

    return release


def overrides(*more: str) -> list[str]:
    return [f"teacher.network={NETWORK}", "teacher.weights=torchvision:PETS_V1", "data.size=32", *more]


def test_files_and_nothing_are_no_released_weights() -> None:
    for text in (None, "resnet18.pth", "./timm:file", "C:/weights.pth"):
        assert released(KEY, text, "resnet18") is None


def test_the_constants_and_classes_of_imagenet_are_those_of_the_library(hub: Path) -> None:
    for network in ("resnet18", "torchvision:vit_b_16"):
        found = imagenet(network)
        assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert (found.classes, found.size) == (1000, (224, 224))


def test_classes_are_compared_by_the_names_that_the_data_has(hub: Path) -> None:
    pytest.importorskip("timm")
    found = imagenet()
    words, ids = found.names
    for names in (words, ids, [word.replace(" ", "_").title() for word in words]):
        assert (
            found.check_classes(names)
            == "the names of its 1000 classes are those of the data, in the same order"
        )
    swapped = [*ids[:2], ids[3], ids[2], *ids[4:]]
    with pytest.raises(InputError, match=r"class 2 is 'n01484850' there and 'n01491361' in the data"):
        found.check_classes(swapped)
    with pytest.raises(InputError, match=r"class 0 is 'tench' there and 'a0' in the data; name the folders"):
        found.check_classes([f"a{number}" for number in range(1000)])
    with pytest.raises(InputError, match=r"knows 1000 classes, but the data has 10; train it on yours with "):
        found.check_classes(list("0123456789"))
    assert "numbers its classes" in found.check_classes([str(number) for number in range(1000)])


def test_without_names_of_their_kind_the_number_of_classes_is_compared(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released_module, "_imagenet_ids", lambda: ())
    said = imagenet().check_classes([f"n{number:08}" for number in range(1000)])
    assert "only their number was compared" in said


@pytest.mark.bad_input("weights")
@pytest.mark.parametrize(
    ("text", "network", "expected"),
    [
        ("torchvision:IMAGENET1K_V9", "resnet18", r"no weights 'IMAGENET1K_V9' of resnet18 \(did you mean"),
        (
            "torchvision:IMAGENET1K_V1",
            "resnet20",
            r"weights of a network of torchvision, but teacher\.network",
        ),
        ("timm:resnet81.a1_in1k", "timm:resnet81", r"timm has no model 'resnet81' \(did you mean"),
        ("timm:resnet18", "timm:resnet18", r"no weights timm:resnet18; those of resnet18: timm:resnet18\.a1"),
        ("timm:resnet18.a1_in1k", "resnet18", r"to use them add teacher\.network=timm:resnet18"),
    ],
)
def test_weights_that_are_not_there_or_of_another_network_are_refused(
    text: str, network: str, expected: str
) -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=rf"^teacher\.weights: .*{expected}"):
        released(KEY, text, network)


@pytest.mark.bad_input("weights")
def test_without_a_file_in_the_cache_the_command_that_gets_it_is_told_at_once(
    hub: Path,
    pets: Path,
    pets_recipe: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["teacher.network=resnet18", "teacher.weights=torchvision:IMAGENET1K_V1"]
    expected = (
        r"is not in .*resnet18-f37072fd\.pth; add --download, or get it elsewhere with `curl -LO https:"
    )
    with pytest.raises(InputError, match=expected) as caught:
        fastdd.run(pets_recipe(pets), tmp_path / "out", given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()

    def unreachable(*arguments: object) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(
        InputError, match=r"cannot be downloaded \(no\); get it elsewhere with `curl -LO https:"
    ):
        fastdd.run(pets_recipe(pets), tmp_path / "out", given, download=True)


def test_a_run_downloads_its_teacher_only_where_asked_and_takes_its_constants(
    hub: Path,
    pets: Path,
    pets_recipe: Callable[[Path], Path],
    tmp_path: Path,
    released_pets: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, recipe = released_pets("Cat", "Dog"), str(pets_recipe(pets))
    command = ["squeeze", recipe, *overrides(), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert not hub.exists()
    assert main([*command, "--download"]) == 0
    cached = hub / source.name
    assert cached.read_bytes() == source.read_bytes()
    told = capsys.readouterr().err
    assert f"mean {list(MEAN)} and std {list(STD)} are those of its training" in told
    assert "the names of its 2 classes are those of the data, in the same order" in told
    folder = RunFolder(tmp_path / "out")
    assert (read_recipe(folder).teacher.mean, read_recipe(folder).teacher.std) == (MEAN, STD)
    weights = read_weights(KEY, folder.teacher())
    assert weights.card is not None
    assert weights.card.classes == ("cat", "dog")
    assert weights.card.mean == MEAN
    source.unlink()
    assert main([*command, "--fresh"]) == 0  # from the cache
    cached.write_bytes(b"x")
    with pytest.raises(InputError, match=r"is damaged: its sha256 begins with 2d711642, expected "):
        fastdd.run(recipe, tmp_path / "out", overrides())


def test_training_may_start_from_released_weights_of_other_classes(
    hub: Path,
    pets: Path,
    pets_recipe: Callable[[Path], Path],
    tmp_path: Path,
    released_pets: Callable[..., Path],
) -> None:
    released_pets("cat", "dog", "horse")
    recipe, start = pets_recipe(pets), "teacher.init=torchvision:PETS_V1"
    with pytest.raises(InputError, match=r"knows 3 classes, but the data has 2; train it on yours with"):
        fastdd.run(recipe, tmp_path / "out", overrides(), until="squeeze", download=True)
    given = overrides(start, "teacher.new_head=true", "teacher.weights=null", "teacher.epochs=1")
    run = fastdd.run(recipe, tmp_path / "out", given, until="squeeze")
    assert run.folder.teacher().is_file()
    assert read_recipe(run.folder).teacher.mean == (0.485, 0.456, 0.406)


def test_classes_in_another_order_are_refused_before_any_work(
    hub: Path,
    pets: Path,
    pets_recipe: Callable[[Path], Path],
    tmp_path: Path,
    released_pets: Callable[..., Path],
) -> None:
    released_pets("dog", "cat")
    with pytest.raises(InputError, match=r"class 0 is 'dog' there and 'cat' in the data"):
        fastdd.run(pets_recipe(pets), tmp_path / "out", overrides(), download=True)
    assert not (tmp_path / "out").exists()


def test_weights_of_timm_come_from_the_cache_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = released(KEY, "timm:test_vit.r160_in1k", "timm:test_vit")
    assert found is not None
    assert (found.mean, found.std, found.size) == ((0.5,) * 3, (0.5,) * 3, (160, 160))
    assert found.names[0][:2] == ("n01440764", "n01443537")
    assert found.names[1][:2] == ("tench", "goldfish")
    with pytest.raises(InputError, match=r"elsewhere with `hf download timm/test_vit\.r160_in1k model\.safe"):
        found.file()
    began = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*get it elsewhere with `hf download"):
        found.download()
    assert time.monotonic() - began < 5

    def download(repository: str, file: str) -> None:
        snapshot = tmp_path / f"models--{repository.replace('/', '--')}"
        (snapshot / "snapshots/1").mkdir(parents=True)
        (snapshot / "refs").mkdir()
        (snapshot / "refs/main").write_text("1")
        save_file(build("timm:test_vit", 1000).state_dict(), snapshot / "snapshots/1" / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found.download()
    assert found.file().name == "model.safetensors"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # not asked again
    found.download()


def test_a_committee_of_other_constants_is_refused(
    hub: Path,
    pets: Path,
    pets_recipe: Callable[[Path], Path],
    tmp_path: Path,
    released_pets: Callable[..., Path],
) -> None:
    released_pets("cat", "dog")
    recipe = tmp_path / "two.yaml"
    recipe.write_text(pets_recipe(pets).read_text() + "committee: {second: {network: resnet8}}\n")
    with pytest.raises(InputError, match=r"committee\.second has mean \[0\.485, .* but teacher has \[0\.5, "):
        fastdd.run(recipe, tmp_path / "out", overrides(), download=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "size", "layers"),
    [("timm:test_convnext", 32, "stages.*"), ("timm:test_vit", 160, "blocks.*")],
)
def test_a_convnext_and_a_vision_transformer_teach_deda_and_dire(
    network: str, size: int, layers: str, pets: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    save_file(build(network, 2).state_dict(), tmp_path / "teacher.safetensors")
    terms = f"{{gaussian: {{layers: ['{layers}']}}}}"
    (tmp_path / "vit.yaml").write_text(
        f"data: {{root: '{pets}', size: {size}}}\n"
        "ipc: 2\n"
        f"teacher: {{network: '{network}', weights: '{tmp_path / 'teacher.safetensors'}'}}\n"
        f"arms: {{deda: {{method: deda, steps: 2, terms: {terms}}},\n"
        f"  deda+dire: {{method: deda, add: [dire], steps: 2, terms: {terms}}}}}\n"
        "labels: {per: view}\n"
        "student: {network: resnet8, steps: 2, seeds: 1, evaluations: 1, batch: 4, labels: stored}\n"
        "metrics: {full_set: false}\n"
    )
    result = fastdd.run(tmp_path / "vit.yaml", tmp_path / "out", until="evaluate")
    assert set(result.metrics.arms) == {"random", "deda", "deda+dire"}
    for arm in ("deda", "deda+dire"):
        assert any(result.folder.path.joinpath("labels", arm).iterdir())
        assert len(result.metrics.arms[arm].last) == 1
