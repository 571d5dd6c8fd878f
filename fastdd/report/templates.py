"""The Jinja environment of the page and of the sweep's figure, with its filters for numbers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment() -> Environment:
    """The environment: templates lie beside this file, and their values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "signed": signed, "percent": percent}
    return environment


@cache
def page_colors() -> dict[str, str]:
    """The page's colors on white by name: ``control``, ``a1`` ... of arms, ``k0`` ... of terms."""
    style = Path(__file__).with_name("head.html").read_text(encoding="utf-8")
    light = style[: style.index("prefers-color-scheme")]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light))


def percent(value: float) -> str:
    """A length in percent, as SVG and CSS write it."""
    return f"{value:.2f}%"


def duration(seconds: float) -> str:
    """Seconds as text, for example 0.4 s, 12 s, 2 min 22 s or 1 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def signed(value: float, digits: int = 1) -> str:
    """A number as text: some decimals, a sign (a true minus) and no sign for zero."""
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")
