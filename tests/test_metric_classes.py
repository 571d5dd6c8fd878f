"""``fastdd.metrics``: the functions' values from batches, across processes, in collections and trainers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from forked import together
from torch import Tensor, nn
from torchmetrics import MetricCollection

import fastdd
import fastdd_kernels
from fastdd.metrics import PRDC, Coverage, Density, IntraClassCosine, Precision, Recall, VendiScore

PAIRED = {Coverage: "coverage", Density: "density", Precision: "precision", Recall: "recall"}


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(60, 8, generator=random), torch.randn(25, 8, generator=random) + 0.3


@pytest.mark.parametrize(("metric", "name"), PAIRED.items())
def test_batches_give_what_the_function_gives(
    metric: type[Coverage], name: str, rows: tuple[Tensor, Tensor]
) -> None:
    real, synthetic = rows
    measured = metric(k=3)
    for batch in real.split(17):
        measured.update(batch, real=True)
    for batch in synthetic.split(9):
        measured.update(batch, real=False)
    wanted = getattr(fastdd_kernels, name)(real, synthetic, 3)
    assert measured.compute() == wanted
    measured.update(real[:4] + 1, real=True)  # the radii are computed anew
    more = torch.cat([real, real[:4] + 1])
    assert measured.compute() == getattr(fastdd_kernels, name)(more, synthetic, 3)
    measured.reset()
    measured.update(synthetic, real=False)
    with pytest.raises(ValueError, match="there are no real features yet; call update"):
        measured.compute()


def test_real_features_can_outlive_a_reset(rows: tuple[Tensor, Tensor]) -> None:
    real, synthetic = rows
    measured = Coverage(k=3, keep_real=True)
    measured.update(real, real=True)
    measured.update(synthetic[:10], real=False)
    measured.compute()
    measured.reset()
    measured.update(synthetic[10:], real=False)
    assert measured.compute() == fastdd_kernels.coverage(real, synthetic[10:], 3)


def test_prdc_and_a_collection(rows: tuple[Tensor, Tensor]) -> None:
    both = MetricCollection({"all": PRDC(k=3), "coverage alone": Coverage(k=3)})
    for features, real in zip(rows, (True, False), strict=True):
        both.update(features, real=real)
    found, wanted = both.compute(), fastdd_kernels.prdc(*rows, 3)
    assert found["coverage alone"] == wanted.coverage == found["coverage"]
    assert found["recall"] == wanted.recall


def test_diversity_is_the_mean_of_the_classes(rows: tuple[Tensor, Tensor]) -> None:
    features, _ = rows
    labels = torch.arange(60) % 4
    labels[-1] = 9  # a class of one row
    vendi, cosine = VendiScore(), IntraClassCosine()
    for batch, own in zip(features.split(13), labels.split(13), strict=True):
        vendi.update(batch, own)
        cosine.update(batch, own)
    each = [features[labels == c] for c in (0, 1, 2, 3, 9)]
    assert vendi.compute().item() == pytest.approx(
        sum(fastdd_kernels.vendi_score(x).item() for x in each) / 5
    )
    wanted = sum(fastdd_kernels.intra_class_cosine(x).item() for x in each[:4]) / 4
    assert cosine.compute().item() == pytest.approx(wanted)
    one = VendiScore(q=2.0)
    one.update(features)
    assert one.compute().item() == pytest.approx(fastdd_kernels.vendi_score(features, 2.0).item())
    alone = IntraClassCosine()
    alone.update(features[:1])
    assert math.isnan(alone.compute())


def test_bad_features_are_refused(rows: tuple[Tensor, Tensor]) -> None:
    measured = Coverage()
    measured.update(rows[0], real=True)
    with pytest.raises(ValueError, match="synthetic features have 5 columns, but those before have 8; call"):
        measured.update(torch.randn(3, 5), real=False)
    with pytest.raises(ValueError, match=r"real features have shape \[8\], expected \[n, D\]"):
        measured.update(torch.randn(8), real=True)
    with pytest.raises(TypeError, match=r"real features are a list, expected a tensor \[n, D\]"):
        measured.update([[1.0]], real=True)
    with pytest.raises(TypeError, match=r"are torch.int64, expected a floating dtype"):
        measured.update(torch.ones(3, 8, dtype=torch.int64), real=True)
    with pytest.raises(ValueError, match="k is 0, expected"):
        Coverage(k=0)
    with pytest.raises(ValueError, match=r"labels have shape \[2\], expected \[3\]"):
        VendiScore().update(torch.randn(3, 8), torch.zeros(2))


GATHERED = """
import sys
import torch
import torch.distributed as distributed
from fastdd.metrics import Coverage, VendiScore

distributed.init_process_group("gloo")
rank, random = distributed.get_rank(), torch.Generator().manual_seed(0)
real, synthetic = torch.randn(60, 8, generator=random), torch.randn(26, 8, generator=random)
measured, vendi = Coverage(k=3), VendiScore()
measured.update(real[rank::2], real=True)
measured.update(synthetic[rank::2], real=False)
vendi.update(synthetic[rank::2], torch.arange(26)[rank::2] % 3)
torch.save([measured.compute(), vendi.compute()], f"{sys.argv[1]}/{rank}.pt")
distributed.destroy_process_group()
"""
"""what each of two processes does, which have every other row"""


def test_two_processes_gather_their_features(tmp_path: Path) -> None:
    (tmp_path / "gathered.py").write_text(GATHERED)
    together(tmp_path / "gathered.py", tmp_path)
    random = torch.Generator().manual_seed(0)
    real, synthetic = torch.randn(60, 8, generator=random), torch.randn(26, 8, generator=random)
    vendi = VendiScore()
    vendi.update(synthetic, torch.arange(26) % 3)
    for rank in (0, 1):
        coverage, diversity = torch.load(tmp_path / f"{rank}.pt")
        assert coverage == fastdd_kernels.coverage(real, synthetic, 3)
        assert diversity.item() == pytest.approx(vendi.compute().item(), rel=1e-5)


def test_it_fits_a_lightning_trainer(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)
            self.coverage = fastdd.metrics.Coverage(k=3)

        def training_step(self, batch: Tensor) -> Tensor:
            return self.body(batch).square().mean()

        def validation_step(self, batch: Tensor) -> None:
            self.coverage.update(self.body(batch), real=True)
            self.coverage.update(self.body(batch + 0.1), real=False)

        def on_validation_epoch_end(self) -> None:
            self.log("coverage", self.coverage.compute())
            self.coverage.reset()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.randn(32, 8), 8)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, **options)
    trainer.fit(Module(), data, data)
    assert 0 < trainer.callback_metrics["coverage"] <= 1


def test_a_value_is_drawn(rows: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    measured = Coverage(k=3)
    for features, real in zip(rows, (True, False), strict=True):
        measured.update(features, real=real)
    figure, _ = measured.plot()
    assert figure is not None
