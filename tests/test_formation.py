"""Formations: against sums of cosines in float64, and through a run, an evaluation, an export, a report."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import decode_image

import fastdd
from fastdd.cli import main
from fastdd.config import BatchSize, Formation, Method
from fastdd.distilled import open_set
from fastdd.distilled.formation import LowFrequencies, pack, plane_sizes, unpack
from fastdd.distilled.images import load_recovered
from fastdd.errors import InputError
from fastdd.recover.variables import Formed
from fastdd.report.finished_run import read_run
from fastdd.report.sheets import sheet

pytestmark = pytest.mark.usefixtures("one_thread")
Formation = Formation
JPEG = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
"""YCbCr of RGB to six digits, as ITU-T T.871 prints it"""


def wave(u: int, i: float, n: int) -> float:
    """The cosine of frequency u at point i of n, orthonormal."""
    return math.sqrt((1 if u == 0 else 2) / n) * math.cos(math.pi * u * (2 * i + 1) / (2 * n))


def sums_of_waves(channel: Tensor, kept: tuple[int, int]) -> Tensor:
    """[H, W] without the frequencies from ``kept`` on, sum by sum."""
    H, W = channel.shape
    out = torch.zeros_like(channel)
    for u in range(kept[0]):
        for v in range(kept[1]):
            base = torch.tensor([[wave(u, i, H) * wave(v, j, W) for j in range(W)] for i in range(H)])
            out += (channel * base).sum() * base
    return out


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 8, 12), (1, 9, 7)])
def test_what_is_unpacked_is_the_low_frequencies(channels: int, height: int, width: int) -> None:
    torch.manual_seed(4)
    smooth = (
        torch.rand(2, channels, 1, 1).double() * 0.3
        + 0.35
        + torch.rand(2, channels, height, width).double() * 0.2
    )
    formation = Formation(images=2, luma=0.6, chroma=0.4)
    sizes = plane_sizes(formation, smooth.shape)
    turn = torch.tensor(JPEG if channels == 3 else [[1.0]], dtype=torch.float64)
    turned = torch.einsum("dc,nchw->ndhw", turn, 255 * smooth)
    wanted = torch.stack(
        [torch.stack([sums_of_waves(c, s) for c, s in zip(x, sizes, strict=True)]) for x in turned]
    )
    wanted = torch.einsum("cd,ndhw->nchw", turn.inverse(), wanted)
    stored = pack(smooth, formation)
    assert stored.shape == (1, channels, height, width)
    found = unpack(stored, formation)
    # Half a level of each kept number: the root of the mean square over pixels, and rounding in the end.
    error = (found.double() - wanted).square().mean().sqrt()
    assert error < 1.0, error
    assert (found.double() - wanted).abs().max() < 5


def test_flat_and_smooth_images_come_back() -> None:
    flat = torch.randint(0, 256, (4, 3, 1, 1), generator=torch.Generator().manual_seed(0)).expand(
        4, 3, 32, 32
    )
    found = unpack(pack(flat / 255, Formation()), Formation())
    assert (found.int() - flat).abs().max() <= 2
    i = torch.arange(32, dtype=torch.float64)
    wavy = 0.5 + 0.3 * torch.cos(math.pi * 5 * (2 * i + 1) / 64)[:, None] * torch.cos(
        math.pi * 3 * (2 * i + 1) / 64
    )
    images = wavy.expand(4, 3, 32, 32)
    found = unpack(pack(images, Formation()), Formation())
    assert (found - 255 * images).abs().max() < 2.5
    lost = 0.5 + 0.3 * torch.cos(math.pi * 25 * (2 * i + 1) / 64)[:, None].expand(4, 3, 32, 32)
    assert (unpack(pack(lost, Formation()), Formation()) - 127.5).abs().max() <= 2


def test_each_image_has_its_own_place() -> None:
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole = unpack(pack(images, Formation()), Formation())
    for k in range(8):
        others = images.clone()
        others[k] = 1 - images[k]
        changed = (unpack(pack(others, Formation()), Formation()) != whole).flatten(1).any(1)
        assert changed.nonzero().flatten().tolist() == [k]


@pytest.mark.parametrize("channels", [1, 3])
def test_low_frequencies_are_what_is_kept(channels: int) -> None:
    formation = Formation(images=2, luma=0.5)
    images = 0.4 + 0.2 * torch.rand(4, channels, 16, 12, generator=torch.Generator().manual_seed(2)).double()
    kept = LowFrequencies(formation, images)(images)
    torch.testing.assert_close(LowFrequencies(formation, images)(kept), kept, rtol=0, atol=1e-12)
    assert (255 * kept - unpack(pack(images, formation), formation)).abs().max() < 3
    assert (kept - images).abs().max() > 0.05
    single = LowFrequencies(formation, images.float())(images.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), kept, rtol=0, atol=1e-6)


def test_recover_moves_what_is_kept_alone() -> None:
    torch.manual_seed(0)
    black, white = torch.full((3, 1, 1), -2.0), torch.full((3, 1, 1), 2.0)
    variable = Formed(torch.randn(4, 3, 16, 16).clamp(-1, 1), (black, white), Formation())
    start, target = variable.result().clone(), torch.randn(4, 3, 16, 16)
    optimizer = torch.optim.Adam([variable.free], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (variable.images(None) - target).square().sum().backward()
        variable.step(optimizer)
    shown = (variable.result().double() - black) / (white - black)
    keep = LowFrequencies(Formation(), shown)
    torch.testing.assert_close(keep(shown), shown, rtol=0, atol=1e-6)
    wanted = (target.double() - black) / (white - black)
    before, after = ((x - keep(wanted)).square().sum() for x in ((start + 2) / 4, shown))
    assert after < 0.2 * before


@pytest.mark.parametrize("count", [0, 4, 400])
def test_any_number_of_images(count: int) -> None:
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    strided = images.permute(0, 1, 3, 2).contiguous(memory_format=torch.channels_last).permute(0, 1, 3, 2)
    stored = pack(strided, Formation())
    assert stored.shape == (count // 4, 3, 8, 8)
    whole = unpack(stored, Formation())
    assert whole.shape == images.shape
    for k in range(0, count, 4):
        assert torch.equal(unpack(pack(images[k : k + 4], Formation()), Formation()), whole[k : k + 4])


def test_what_does_not_fit_is_refused() -> None:
    assert plane_sizes(Formation(), (3, 32, 32)) == [(24, 24), (8, 8), (8, 8)]
    assert plane_sizes(Formation(images=8, luma=0.5625, chroma=0.15), (3, 32, 32)) == [
        (18, 18),
        (5, 5),
        (5, 5),
    ]
    with pytest.raises(
        InputError, match=r"keeps 24 x 24 and 8 x 8 numbers of each of 5 images, 3520 bytes in all"
    ):
        plane_sizes(Formation(images=5), (3, 32, 32))
    with pytest.raises(InputError, match=r"keeps 0 x 0 numbers of an image of 8 x 8 pixels, .* raise luma"):
        plane_sizes(Formation(luma=0.05), (1, 8, 8))


# -- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def formed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose arm deda is of formations of two; read only. Beside it lies what it printed."""
    out = tmp_path_factory.mktemp("formed") / "out"
    command = ["run", str(finished.parent / "tiny.yaml"), "--out", str(out)]
    given = [f"teacher.weights={finished / 'teacher.safetensors'}", "metrics.full_set=false"]
    how = ["images: 2", "luma: 0.625"]
    arms = [f"arms.deda.formation={{{', '.join(how)}}}", "arms.deda.batch.slots=all"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*command, *given, *arms]) == 0
    (out.parent / "stdout").write_text(printed.getvalue())
    return out


def test_a_run_stores_few_images_and_trains_on_all(formed: Path, finished: Path) -> None:
    known, plain = (json.loads((run / "metrics.json").read_text()) for run in (formed, finished))
    ipc = known["ipc"]
    assert known["arms"]["deda"]["seen"] == 2 * ipc == 2 * plain["arms"]["deda"]["seen"]
    assert f"students see, where not {ipc}: DEDA {2 * ipc}" in (formed.parent / "stdout").read_text()
    files = sorted((formed / "images" / "deda").glob("*/*"))
    assert len(files) == len(list((finished / "images" / "deda").glob("*/*"))) == 10 * ipc
    assert [file.name for file in files[:ipc]] == [f"{slot:05d}.png" for slot in range(ipc)]
    assert decode_image(str(files[0])).shape == decode_image(str(finished / "images/deda/0/00000.png")).shape
    units = [json.loads(path.read_text()) for path in (formed / "recover" / "deda").glob("unit_*.json")]
    assert sorted(tuple(row) for unit in units for row in unit["rows"]) == [
        (c, slot) for c in range(10) for slot in range(2 * ipc)
    ]


def test_all_readers_see_the_same_images(formed: Path, tmp_path: Path) -> None:
    known = open_set(formed, "deda", channels=1)
    method = Method(formation=Formation(images=2, luma=0.625), batch=BatchSize(slots="all"), steps=0)
    names, count = [str(c) for c in range(10)], len(known) // 10
    folder = formed / "images" / "deda"
    images, labels, storage = load_recovered(folder, names, count, channels=1, method=method)
    assert (storage.per_file, storage.mosaics) == (2, None)
    assert torch.equal(known.images, images)
    assert torch.equal(known.labels, labels)
    assert known.ids[:3] == ("0/00000.png#0", "0/00000.png#1", "0/00001.png#0")
    assert open_set(formed, "random", channels=1).storage.per_file == 1
    assert (
        main(
            ["export", str(formed), "--arm", "deda", "--to", "imagefolder", "--out", str(tmp_path / "folder")]
        )
        == 0
    )
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "| images | 40 of 10 classes, unpacked; the run stores 2 of them in one image file |" in card
    written = sorted((tmp_path / "folder" / "train").glob("*/*"))
    assert torch.equal(torch.stack([decode_image(str(path)) for path in written]), images)


def test_the_report_shows_what_students_see(formed: Path) -> None:
    run, known = read_run(formed), open_set(formed, "deda", channels=3)
    (arm,) = (arm for arm in run.arms if arm.key == "deda")
    assert "2 images in the pixels of one" in arm.settings
    shown = sheet([[run.image(arm, str(c), slot) for slot in range(3)] for c in range(2)])
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.uri.split(",")[1]))))
    each = len(known) // 10
    wanted = torch.cat(
        [torch.cat(list(known.images[c * each : c * each + 3]), dim=2) for c in range(2)], dim=1
    )
    np.testing.assert_array_equal(picture, wanted.permute(1, 2, 0).numpy())


def test_an_evaluation_has_a_control_of_as_many_stored_images(
    formed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.json"
    command = ["evaluate", str(formed), "--arm", "deda", "--seeds", "1", "--no-full-set", "--json", str(out)]
    assert main(command) == 0
    students = json.loads(out.read_text())["students"]
    assert [student["arm"] for student in students] == ["deda", "random"]
    for student in students:  # of 20 real images and of 40 formed ones, as in the run itself
        known = json.loads((formed / "students" / student["arm"] / "seed_0.json").read_text())
        assert student["last"] == known["last"]
    assert "deda" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("arms.deda.batch.slots=1", "a batch holds a multiple of them: set batch.slots to all, got 1"),
        ("arms.deda.save.format=jpeg", "formation needs exact bytes: set save.format to png, got jpeg"),
        ("arms.deda.formation.luma=0.9", "arms.deda.formation keeps 7 x 7 numbers of each of 2 images"),
        ("arms.deda.formation.images=2000", "lower images, luma or chroma"),
        ("arms.deda.formation.luma=1.5", "formation.luma: input should be less than or equal to 1, got 1.5"),
    ],
)
def test_formations_that_cannot_be_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, text: str
) -> None:
    given = ["arms.deda.formation={images: 2, luma: 0.625}", "arms.deda.batch.slots=all", override]
    assert main(["run", str(finished.parent / "tiny.yaml"), "--out", str(tmp_path / "out"), *given]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_formation_of_more_images_than_a_class_has_says_how_many_fit(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path
) -> None:
    overrides = ["arms.deda.formation={images: 4}", "arms.deda.batch.slots=all"]
    with pytest.raises(InputError, match=r"^arms\.deda\.formation puts 4 .* class 'cat' holds 8 .* ipc to 2"):
        fastdd.run(pets_recipe(pets), tmp_path / "out", overrides)
    nine = "arms.deda.formation={images: 9, luma: 0.25, chroma: 0.25}"
    with pytest.raises(InputError, match=r"puts 9 .*; put fewer into one$"):
        fastdd.run(pets_recipe(pets), tmp_path / "out", [nine, overrides[1]])
