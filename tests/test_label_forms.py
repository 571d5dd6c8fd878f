"""How logits are written: error bounds, bytes, and what cannot be written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastdd.errors import InputError
from fastdd.labels import Form, bytes_per_label, decode, encode

FORMS: tuple[Form, ...] = ("fp16", "bf16", "topk", "int8", "int4")


def logits(classes: int, size: float = 5.0) -> Tensor:
    return size * torch.randn(64, classes, generator=torch.Generator().manual_seed(classes))


@pytest.mark.parametrize("classes", [2, 7, 10, 200, 1000])
@pytest.mark.parametrize("form", FORMS)
def test_a_label_takes_the_bytes_of_the_formula(form: Form, classes: int) -> None:
    encoded = encode(logits(classes), form, k=5)
    assert sum(tensor.nbytes for tensor in encoded.values()) == 64 * bytes_per_label(form, classes, k=5)
    assert all(len(tensor) == 64 for tensor in encoded.values())
    assert decode(encoded, form, classes).shape == (64, classes)


def test_bytes_against_the_released_layout() -> None:
    fkd = {classes: 2 * classes + 25 for classes in (10, 1000)}
    assert bytes_per_label("int4", 10) == 9  # 5 times less; 10 times with half of the batches
    assert bytes_per_label("int4", 1000) == 504  # 4 times less; 10 times with two fifths of the batches
    assert bytes_per_label("topk", 1000) == 42  # 48 times less
    assert fkd[10] / bytes_per_label("int4", 10) * 2 >= 10
    assert fkd[1000] / bytes_per_label("int4", 1000) / 0.4 >= 10
    assert fkd[1000] / bytes_per_label("topk", 1000) > 48


@pytest.mark.parametrize(("form", "rtol"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_floats_round(form: Form, rtol: float) -> None:
    z = logits(100)
    torch.testing.assert_close(decode(encode(z, form), form, 100), z, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(("form", "levels"), [("int8", 255), ("int4", 15)])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 5.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1.0, -300.0])
def test_levels_are_within_half_a_step(form: Form, levels: int, size: float, offset: float) -> None:
    z = logits(13, size) + offset
    error = (decode(encode(z, form), form, 13).double() - z.double()).abs().amax(1)
    low, high = z.double().aminmax(dim=1)
    reach = (high - low) + 2.0**-9 * low.abs() + 2.0**-23  # low is rounded down, and the scale up
    step = reach / levels * (1 + 2.0**-9) + 2.0**-23
    assert bool((error <= step / 2 + 1e-7 * z.abs().amax(1)).all())


def test_a_label_of_one_value_is_kept() -> None:
    for form in ("int8", "int4", "topk"):
        z = torch.full((3, 6), 2.5)
        torch.testing.assert_close(decode(encode(z, form), form, 6), z, rtol=1e-3, atol=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_topk_keeps_the_largest_probabilities_and_spreads_the_rest(classes: int, temperature: float) -> None:
    z, k = logits(classes), 3
    seen = decode(encode(z, "topk", k, temperature), "topk", classes).double()
    wanted, got = (x.double().div(temperature).softmax(1) for x in (z, seen))
    top = z.topk(k).indices
    torch.testing.assert_close(got.gather(1, top), wanted.gather(1, top), rtol=0.02 / temperature, atol=1e-6)
    rest = torch.ones_like(wanted, dtype=torch.bool).scatter(1, top, False)
    torch.testing.assert_close(
        got[rest].view(64, -1).sum(1), wanted[rest].view(64, -1).sum(1), rtol=0.02 / temperature, atol=1e-6
    )
    assert bool((got[rest].view(64, -1) == got[rest].view(64, -1)[:, :1]).all())


def test_topk_of_all_classes_is_fp16() -> None:
    z = logits(8)
    assert torch.equal(decode(encode(z, "topk", 10), "topk", 8), z.half().float())


@pytest.mark.parametrize("form", FORMS)
def test_numbers_that_are_none_or_too_large(form: Form) -> None:
    z = logits(10)
    z[5, 3] = torch.nan
    with pytest.raises(InputError, match="logits must be finite"):
        encode(z, form)
    z[5, 3] = -1e6
    if form == "bf16":
        assert float(decode(encode(z, form), form, 10)[5, 3]) == pytest.approx(-1e6, rel=2**-8)
    elif form != "topk":  # which may leave a small one out
        with pytest.raises(InputError, match=r"1e\+06 do not fit fp16"):
            encode(z, form)
