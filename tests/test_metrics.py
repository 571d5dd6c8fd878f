"""Metrics of any set against the definitions, features by name, robust scores, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from galleries import pixels, random_teacher
from prdc import compute_prdc
from safetensors.torch import save_file
from torch import Tensor, nn
from vendi_score import vendi

from fastdd.cli import main
from fastdd.data import open_dataset
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate import embed, measure, network_features, teacher_features
from fastdd.evaluate.dd_ranking import augmentation_robust, label_robust, score
from fastdd.evaluate.scores import NAMES, rows_of_classes
from fastdd.models.build import build
from fastdd.teachers import save_teacher
from fastdd_kernels import knn_radii

CPU = torch.device("cpu")


def features(counts: list[int], shift: float, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return torch.rand(len(labels), 6, generator=random) + labels[:, None] * shift, labels


# -- scores ---------------------------------------------------------------------------------------


def test_golden_coverage() -> None:
    real, synthetic = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [6.5]])
    classes = torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    assert measure(real, classes[0], synthetic, classes[1], 1).whole.coverage == 0.75
    two = measure(real, classes[0], synthetic, classes[1], 2)
    assert two.whole.coverage == 1.0
    assert two.whole.recall is None
    assert two.whole.missing == ("recall with k = 2 needs 3 distilled images, there are 2",)


def test_golden_vendi() -> None:
    real, zeros = torch.rand(9, 4), torch.zeros(9, dtype=torch.int64)

    def vendi_of(rows: list[list[float]]) -> float:
        found = measure(real, zeros, torch.tensor(rows), zeros[: len(rows)], 3).whole.vendi
        assert found is not None
        return found

    assert vendi_of([[1.0, 2.0, 0.0, 0.0]] * 3) == pytest.approx(1)
    assert vendi_of(torch.eye(4).tolist()) == pytest.approx(4)
    assert vendi_of([[1.0, 0, 0, 0], [0.5, math.sqrt(0.75), 0, 0]]) == pytest.approx(1.7547654, abs=1e-6)


def test_whole_classes_and_means_against_other_implementations() -> None:
    real, truth = features([30, 40, 25], 0.3, 0)
    synthetic, labels = features([8, 7, 9], 0.3, 1)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    got = measure(real, truth, synthetic[shuffled], labels[shuffled], 4)
    assert (got.k, got.dimension) == (4, 6)
    pairs = [(got.whole, real, synthetic)]
    pairs += [(got.by_class[c], real[truth == c], synthetic[labels == c]) for c in range(3)]
    for scores, x, y in pairs:
        assert (scores.real, scores.synthetic, scores.missing) == (len(x), len(y), ())
        wanted = compute_prdc(x.double().numpy(), y.double().numpy(), 4)
        for name in ("coverage", "density", "precision", "recall"):
            assert getattr(scores, name) == pytest.approx(wanted[name]), name
        unit = torch.nn.functional.normalize(y.double())
        assert scores.vendi == pytest.approx(vendi.score_X(unit.numpy()), rel=1e-5)
        gram = unit @ unit.T
        assert scores.vendi_2 == pytest.approx(len(y) ** 2 / float(gram.square().sum()), rel=1e-5)
        assert scores.cosine == pytest.approx(
            float((gram.sum() - len(y)) / (len(y) * (len(y) - 1))), rel=1e-5
        )
    for name in NAMES:
        each = [getattr(scores, name) for scores in got.by_class]
        assert got.mean(name) == pytest.approx(sum(each) / 3)
    known = measure(real, truth, synthetic, labels, 4, real_radii=knn_radii(real, 4)).whole
    assert all(getattr(known, name) == pytest.approx(getattr(got.whole, name), rel=1e-6) for name in NAMES)
    assert measure(real, truth, synthetic, labels, 4, real_radii=torch.zeros(95)).whole.coverage == 0


def test_the_rows_of_classes_are_found_in_one_look_at_the_labels() -> None:
    labels = torch.tensor([4, 0, 2, 0, 4, 4])
    found = rows_of_classes(labels, 6)
    assert [rows.tolist() for rows in found] == [[1, 3], [], [2], [], [0, 4, 5], []]
    assert len({rows.untyped_storage().data_ptr() for rows in found}) == 1  # one sort serves all classes


def test_a_class_with_too_few_images_says_why() -> None:
    real, truth = features([3, 20, 20], 0.3, 0)
    synthetic, labels = features([6, 1], 0.3, 1)
    got = measure(real.half(), truth, synthetic.half(), labels, 3)
    few, one, none = got.by_class
    assert few.coverage is few.recall is None
    assert few.vendi is not None
    assert "there are 3" in few.missing[0]
    assert one.coverage is not None
    assert one.recall is one.cosine is None
    assert one.vendi == 1
    assert none.missing == ("no distilled images",)
    assert got.values("coverage") == [one.coverage]
    assert got.mean("recall") is None
    plain = json.loads(json.dumps(got.content()))
    assert plain["classes"] == {**dict.fromkeys(NAMES, 1), "recall": 0, "vendi": 2, "vendi_2": 2}
    assert plain["by_class"][2]["synthetic"] == 0


def test_bad_features_are_named() -> None:
    real, truth = features([5, 5], 0.3, 0)
    synthetic, labels = features([2, 2], 0.3, 1)

    def refused(*arguments: object) -> str:
        with pytest.raises(InputError) as caught:
            measure(*arguments)  # type: ignore[arg-type]
        return str(caught.value)

    assert "k is 10, expected at least 1 and less than the 10 real images" in refused(
        real, truth, synthetic, labels, 10
    )
    assert "k is 0" in refused(real, truth, synthetic, labels, 0)
    assert "label 2 is none of the real set's classes 0 to 1" in refused(
        real, truth, synthetic, labels + 1, 3
    )
    assert "real features are 6 wide, distilled ones 5" in refused(real, truth, synthetic[:, :5], labels, 3)
    assert "got [4, 6] and [3]" in refused(real, truth, synthetic, labels[:3], 3)
    assert "synthetic features hold NaN" in refused(real, truth, synthetic * math.nan, labels, 3)


# -- robust scores --------------------------------------------------------------------------------


def test_robust_scores() -> None:
    """The golden values of DD-Ranking's scale, and a hand-made example."""
    golden = {-1: 0, -0.25: 0.1748302, 0: 0.2689414, 0.1: 0.3136873, 1: 1}
    for advantage, wanted in golden.items():
        assert score(advantage) == pytest.approx(wanted, abs=1e-7)
    label = label_robust(real_hard=0.9, synthetic_hard=0.3, synthetic=0.6, random=0.5)
    assert label[:3] == pytest.approx((0.6, 0.1, -0.25))
    assert label.score == pytest.approx(0.1748302, abs=1e-7)
    plain = augmentation_robust(synthetic=0.6, random=0.5, synthetic_plain=0.5, random_plain=0.4)
    assert plain.score == pytest.approx(0.3136873, abs=1e-7)
    only = label_robust(real_hard=0.9, synthetic_hard=0.3, synthetic=0.6, random=0.5, weight=1)
    assert only.alpha == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"real_hard is 56\.5, expected a fraction"):
        label_robust(real_hard=56.5, synthetic_hard=0.3, synthetic=0.6, random=0.5)


# -- features -------------------------------------------------------------------------------------


def test_features_of_a_network_by_name(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build("mobilenet_v3_small", 7).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    seen: list[Tensor] = []
    network.classifier[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))  # type: ignore[union-attr, index]
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        network((images / 255 - mean[:, None, None]) / std[:, None, None])
    for name in ("w.safetensors", "w.pth"):
        extractor = network_features("torchvision:mobilenet_v3_small", tmp_path / name, CPU)
        torch.testing.assert_close(extractor(images), seen[0], rtol=1e-4, atol=1e-5)
        assert extractor.text.startswith("torchvision:mobilenet_v3_small (weights ")
    with pytest.raises(InputError, match="is no resnet18: tensor"):
        network_features("torchvision:resnet18", tmp_path / "w.safetensors", CPU)


def test_features_need_weights_that_are_plain(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs --weights FILE.*--random-weights"):
        network_features("torchvision:resnet18", None, CPU)
    with pytest.raises(InputError, match=r"unknown network 'resnet81' \(did you mean"):
        network_features("torchvision:resnet81", None, CPU, random_weights=True)
    with pytest.raises(InputError, match="no linear layer"):
        network_features("torchvision:squeezenet1_1", None, CPU, random_weights=True)
    with pytest.raises(InputError, match="does not exist"):
        network_features("resnet20", tmp_path / "absent.pth", CPU)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # a pickled object, which must not be loaded
    with pytest.raises(InputError, match="is no file of plain weights"):
        network_features("resnet20", tmp_path / "module.pth", CPU)
    before = torch.get_rng_state()
    first, second = (network_features("resnet8", None, CPU, random_weights=True) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(first(images), second(images))


def test_a_data_set_is_embedded_in_parts(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = random_teacher("resnet8", ("cat", "dog"))
    save_teacher(tmp_path / "t.safetensors", teacher)
    extractor = teacher_features(tmp_path / "t.safetensors", CPU)
    real = open_dataset(pets, "train")
    whole = embed(teacher, pixels(real, (12, 12)))
    monkeypatch.setattr("fastdd.evaluate.features.PIXELS", 5 * 12 * 12)
    embedded, labels = extractor.of_dataset(real, (12, 12))
    torch.testing.assert_close(embedded, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(labels, real.labels)
    (pets / "train/cat/2.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"cat/2\.png"):
        extractor.of_dataset(real, (12, 12))
    embedded, labels = extractor.of_dataset(real, (12, 12), on_error="skip")
    torch.testing.assert_close(embedded, torch.cat((whole[:2], whole[3:])), rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [0] * 7 + [1] * 8
    save_file(teacher.network.state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"has no card; name its network with --features NETWORK"):
        teacher_features(tmp_path / "bare.safetensors", CPU)


# -- command --------------------------------------------------------------------------------------


def test_the_command_measures_a_released_set(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for c, name in enumerate(("cat", "dog")):
        for slot in range(3):
            target = tmp_path / f"set/new{c:03d}/class{c:03d}_id{slot:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((pets / f"train/{name}/{slot}.png").read_bytes())
    command = ["metrics", str(tmp_path / "set"), "--real", str(pets), "--features", "resnet8", "--k", "2"]
    assert main(command) == 2
    assert "needs --weights FILE" in capsys.readouterr().err
    assert main([*command, "--random-weights", "--device", "gpu"]) == 2
    assert "device 'gpu' is unknown (did you mean 'cuda'?)" in capsys.readouterr().err
    assert main([*command, "--random-weights", "--teacher-network", "resnet8"]) == 2
    assert "--teacher-network and --features are two networks; give one of them" in capsys.readouterr().err
    assert main([*command, "--random-weights", "--json", str(tmp_path / "m.json")]) == 0
    out = capsys.readouterr().out
    assert "6 images against 16 of" in out
    assert "resnet8 (random weights, seed 0), 64 values; k = 2" in out
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["class_names"] == ["cat", "dog"]
    assert found["size"] == [8, 8]
    extractor = network_features("resnet8", None, CPU, random_weights=True)
    real, distilled = open_dataset(pets, "train"), open_set(tmp_path / "set")
    wanted = measure(
        extractor(pixels(real, None)),
        real.labels,
        extractor(distilled.images),
        torch.tensor([0] * 3 + [1] * 3),
        2,
    )
    assert found["whole"] == json.loads(json.dumps(wanted.content()))["whole"]
    assert found["whole"]["precision"] == 1.0  # they are real images


def test_the_command_refuses_what_does_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        ("--teacher", "t", "--features", "resnet8"): "give one of them",
        ("--random-weights",): "are of --features NETWORK",
        (): "give --teacher FILE",
    }
    for options, wanted in cases.items():
        assert main(["metrics", str(tmp_path), *options]) == 2
        assert wanted in capsys.readouterr().err


def test_the_command_knows_a_run(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real set, teacher and channels are those of the run, so its own numbers come out again."""
    assert main(["metrics", str(finished), "--arm", "deda", "--json", str(tmp_path / "m.json")]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    own = json.loads((finished / "metrics.json").read_text())["arms"]["deda"]
    assert found["whole"]["coverage"] == pytest.approx(
        own["coverage"], abs=0.01
    )  # the run keeps embeddings in float16
    assert found["mean"]["vendi"] == pytest.approx(own["vendi"], rel=1e-3)
    assert found["mean"]["cosine"] == pytest.approx(own["cosine"], rel=1e-3)
    capsys.readouterr()
    assert main(["metrics", str(finished), "--json", str(tmp_path / "all.json")]) == 0  # all arms, one by one
    printed = capsys.readouterr().out
    assert [name in printed for name in ("images/deda", "images/sre2l", "images/sre2l+dire")] == [True] * 3
    assert json.loads((tmp_path / "all-deda.json").read_text()) == found
    assert not (tmp_path / "all-random.json").exists()
