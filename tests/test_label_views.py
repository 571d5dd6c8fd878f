"""Views, their pixels, and pools of labelling batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from views import CUTMIX, SHIFT, N, one_by_one, random_images

from fastdd.errors import InputError
from fastdd.labels import Augmentation, LabelPool, draw_views, render_views


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images()


# -- views -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [CUTMIX, SHIFT, replace(CUTMIX, order="fkd")])
def test_a_view_depends_on_seed_epoch_and_sample_alone(how: Augmentation) -> None:
    whole = draw_views(1, 4, N, how)
    assert sorted(whole.ids.tolist()) == list(range(N))
    again = draw_views(1, 4, N, how)
    assert again.digest() == whole.digest()
    ids = torch.tensor([7, 22, 0, 3])
    some = again.of(ids)
    for i, sample in enumerate(ids.tolist()):
        row = whole.ids.tolist().index(sample)
        assert torch.equal(some.windows[i], whole.windows[row])
        assert some.ratios is not None
        assert whole.ratios is not None
        assert some.ratios[i] == whole.ratios[row]
    for other in (draw_views(2, 4, N, how), draw_views(1, 5, N, how)):
        assert not torch.equal(other.windows, whole.windows)
        assert other.digest() != whole.digest()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_partners_are_permutations_of_each_group(per: Any) -> None:
    views = draw_views(0, 0, N, replace(CUTMIX, mix_per=per))
    assert views.partners is not None
    assert views.partner_windows is not None
    assert views.ratios is not None
    assert views.boxes is not None
    assert views.groups.tolist() == [0] * 8 + [1] * 8 + [2] * 7
    for group in range(3):
        rows = views.groups == group
        assert sorted(views.partners[rows].tolist()) == sorted(views.ids[rows].tolist())
        assert len(views.ratios[rows].unique()) == (1 if per == "batch" else int(rows.sum()))
    assert torch.equal(views.of(views.partners).windows, views.partner_windows)
    assert not torch.equal(views.partners, views.ids)


def test_the_fkd_order_is_that_of_torch_s_sampler() -> None:
    sampler = torch.utils.data.RandomSampler(range(N), generator=torch.Generator().manual_seed(42))
    for epoch in range(3):
        assert draw_views(9, epoch, N, replace(CUTMIX, order="fkd")).ids.tolist() == list(sampler)


def test_boxes_cover_what_the_ratio_leaves() -> None:
    views = draw_views(0, 0, 4000, Augmentation((64, 48), mix="cutmix", mix_per="sample"))
    assert views.boxes is not None
    assert views.ratios is not None
    top, bottom, left, right = views.boxes.unbind(1)
    assert bool((top >= 0).all() and (bottom <= 64).all() and (left >= 0).all() and (right <= 48).all())
    inner = (top > 0) & (bottom < 64)  # not clipped
    wanted = 64 * (1 - views.ratios[inner]).sqrt()
    assert bool(((bottom - top)[inner] <= wanted).all() and ((bottom - top)[inner] > wanted - 2).all())
    assert abs(float(views.ratios.mean()) - 0.5) < 0.02
    assert abs(float(views.windows[:, 0].double().mean()) - 0.5) < 0.04


def test_unknown_samples_and_impossible_augmentations() -> None:
    with pytest.raises(InputError, match="sample 23 has no view in epoch 0"):
        draw_views(0, 0, N, CUTMIX).of(torch.tensor([3, 23]))
    with pytest.raises(InputError, match="two kinds of crop"):
        Augmentation((8, 8), scale=(0.5, 1), pad=2)


# -- pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [CUTMIX, SHIFT, replace(CUTMIX, mix="mixup"), replace(SHIFT, mix="none")])
def test_views_are_shown_as_described_in_any_batch(images: Tensor, how: Augmentation) -> None:
    normal = images.float() / 255
    wanted, views = one_by_one(normal, how, 2), draw_views(5, 2, N, how)
    for size in (1, 6, N):
        for ids in torch.randperm(N, generator=torch.Generator().manual_seed(size)).split(size):
            shown = render_views(normal, views.of(ids))
            torch.testing.assert_close(
                shown, torch.stack([wanted[i] for i in ids.tolist()]), rtol=0, atol=2e-6
            )
            raw = render_views(images, views.of(ids), lambda batch: batch.float() / 255)
            assert torch.equal(raw, shown)


# -- pools -----------------------------------------------------------------------------------------


def test_a_pool_keeps_the_first_batches() -> None:
    pool = LabelPool(10_000, 128, 300, keep=0.025)
    assert len(pool.kept) == int(0.025 * 300 * 78) == 585  # 7.5 epochs' worth
    assert pool.kept[:2] == [(0, 0), (0, 1)]
    assert pool.labelled == list(range(8))
    assert pool.labels == 585 * 128
    whole = LabelPool(N, 8, 2)
    assert whole.kept == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert whole.labels == 2 * N
    assert whole.rows(1).tolist() == list(range(N))
    assert len(LabelPool(100, 10, 10, keep=0.3).kept) == 30  # 0.3 * 100 is 30 but for rounding


def test_a_random_pool_is_spread_over_the_epochs() -> None:
    pool = LabelPool(1000, 10, 20, keep=0.1, choice="random", seed=1)
    assert len(set(pool.kept)) == 200
    assert len(pool.labelled) == 20
    assert pool.kept == LabelPool(1000, 10, 20, keep=0.1, choice="random", seed=1).kept
    assert pool.kept != LabelPool(1000, 10, 20, keep=0.1, choice="random", seed=2).kept


def test_epochs_draw_with_replacement_and_never_a_short_batch() -> None:
    pool = LabelPool(N, 8, 4)
    drawn = [draw for epoch in range(2000) for draw in pool.draw(0, epoch)]
    counts = Counter(drawn)
    assert len(pool.draw(0, 0)) == 3
    assert {group for _, group in counts} == {0, 1}
    for epoch in range(4):  # the one before takes the place of a short batch
        assert abs(counts[epoch, 1] / len(drawn) - 2 / 12) < 0.02
        assert abs(counts[epoch, 0] / len(drawn) - 1 / 12) < 0.02
    assert pool.cycle(0) + pool.cycle(1) == pool.kept[:6]


def test_keep_is_a_share() -> None:
    with pytest.raises(InputError, match=r"labels.keep must be a share"):
        LabelPool(10, 2, 1, keep=0)
    with pytest.raises(InputError, match="leaves no batch"):
        LabelPool(10, 5, 1, keep=0.1)
