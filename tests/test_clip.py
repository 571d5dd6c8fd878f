"""CLIP's embedding as features: the network that a file's tensors are of, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.evaluate import features
from fastdd.evaluate.features import MEAN, STD, clip_features

timm = pytest.importorskip("timm")
CPU = torch.device("cpu")
SWAPS = (
    ("patch_embed.proj", "conv1"),
    ("pos_embed", "positional_embedding"),
    ("norm_pre", "ln_pre"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("norm.", "ln_post."),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("blocks.", "transformer.resblocks."),
    ("cls_token", "class_embedding"),
)
"""timm's part of a name -> CLIP's"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of a small vision transformer under CLIP's names, with a tensor of a text tower."""
    torch.manual_seed(0)
    vision = timm.create_model("vit_xsmall_patch16_clip_224", num_classes=24)
    width = vision.embed_dim
    monkeypatch.setitem(features.NETWORKS, (width, 16), "vit_xsmall_patch16_clip{}_224")
    with torch.no_grad():
        vision.head.bias.zero_()
        vision.cls_token.normal_()
    state = {}
    for name, tensor in vision.state_dict().items():
        for ours, theirs in SWAPS:
            name = name.replace(ours, theirs)
        state[f"visual.{name}"] = tensor.clone()
    state["visual.proj"] = state.pop("visual.head.weight").T.contiguous()
    del state["visual.head.bias"]
    state["visual.class_embedding"] = state["visual.class_embedding"].flatten()
    state["visual.positional_embedding"] = state["visual.positional_embedding"][0].contiguous()
    state["token_embedding.weight"] = torch.zeros(3, 4)
    save_file(state, tmp_path / "clip.safetensors")
    torch.save(vision.state_dict(), tmp_path / "timm.pt")
    return tmp_path / "clip.safetensors"


def test_it_is_the_networks_output_for_enlarged_images(weights: Path) -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    found = clip_features("--features", f"clip:{weights}", CPU)(images)
    vision = timm.create_model("vit_xsmall_patch16_clip_224", num_classes=24).eval()
    vision.load_state_dict(torch.load(weights.with_name("timm.pt"), weights_only=True))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    large = F.interpolate((images / 255 - mean) / std, (224, 224), mode="bicubic", antialias=True)
    with torch.no_grad():
        wanted = vision(large)
    assert found.shape == (3, 24)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_is_no_vision_transformer_of_clip_is_refused(weights: Path, tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no vision transformer of CLIP that is known here"):
        clip_features("--features", f"clip:{tmp_path / 'other.safetensors'}", CPU)
    with pytest.raises(InputError, match="does not exist; give a file of weights"):
        clip_features("--features", f"clip:{tmp_path / 'absent.pt'}", CPU)
    from safetensors.torch import load_file

    cut = {name: tensor for name, tensor in load_file(weights).items() if "resblocks.1." not in name}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="does not fit vit_xsmall_patch16_clip_224"):
        clip_features("--features", f"clip:{tmp_path / 'cut.safetensors'}", CPU)


RECIPE = """
data: {{root: {root}, size: 32}}
teacher: {{network: resnet8, epochs: 1, batch: 8, minimum_accuracy: 0}}
ipc: 1
arms: {{sre2l: {{method: sre2l, steps: 1}}}}
student: {{network: resnet8, steps: 1, seeds: 1}}
metrics: {{full_set: false, nearest_k: 2, features: "clip:{weights}"}}
published:
  item: a table
  features: {{coverage: {{sre2l: 0.088}}}}
"""


def test_a_run_measures_its_arms_in_them_too(
    weights: Path, pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "own.yaml", tmp_path / "out"
    recipe.write_text(RECIPE.format(root=pets, weights=weights))
    assert main(["run", str(recipe), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    for arm in ("random", "sre2l"):
        found = metrics["arms"][arm]["features"]
        assert found.keys() == {"coverage", "vendi", "cosine"}
        assert 0 <= found["coverage"] <= 1 <= found["vendi"] + 1e-6
    assert "coverage, CLIP" in shown
    (row,) = metrics["published"]["rows"]
    assert (row["quantity"], row["ours"]) == (
        "coverage, CLIP",
        metrics["arms"]["sre2l"]["features"]["coverage"],
    )
    assert "Coverage, CLIP" in (out / "report.html").read_text()
    assert (
        main(
            [
                "metrics",
                str(out),
                "--features",
                f"clip:{weights}",
                "--k",
                "2",
                "--json",
                str(tmp_path / "m.json"),
            ]
        )
        == 0
    )
    alone = json.loads((tmp_path / "m.json").read_text())
    assert alone["whole"]["coverage"] == pytest.approx(metrics["arms"]["sre2l"]["features"]["coverage"])


def test_features_that_cannot_be_had_are_refused_before_any_work(pets: Path, tmp_path: Path) -> None:
    import fastdd

    recipe, out = tmp_path / "own.yaml", tmp_path / "out"
    recipe.write_text(RECIPE.format(root=pets, weights=tmp_path / "absent.pt"))
    with pytest.raises(InputError, match=r"metrics\.features: .* does not exist"):
        fastdd.run(str(recipe), out)
    assert not out.exists()
    with pytest.raises(InputError, match=r"metrics\.features: expected clip:FILE or clip-quickgelu:FILE"):
        fastdd.resolve(str(recipe), ["metrics.features=resnet18"])
