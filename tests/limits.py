"""What the property tests share: limits of time and memory, numbers of tries, and damages of files."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 10
BYTES = 2 << 30
SUITE = settings.get_profile("suite").max_examples


def tries(count: int) -> Callable[..., Callable[..., None]]:
    """As many inputs in the suite, and as many as the profile says elsewhere."""
    chosen = settings().max_examples
    return settings(
        max_examples=count if chosen == SUITE else chosen,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def bounded() -> Iterator[None]:
    """Let a block take ten seconds and two gigabytes more than there are.

    Raises:
        TimeoutError, MemoryError: it takes more.
    """

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


EXTREMES = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\n",
    b"{",
    b'"',
    b"nan",
    b"-1",
]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One to three damages of a file: cut, bytes changed, taken out, put in or repeated."""
    kinds = draw(st.lists(st.sampled_from(["cut", "change", "out", "in", "repeat"]), min_size=1, max_size=3))
    places = [draw(st.floats(0, 1, exclude_max=True)) for _ in kinds]
    lengths = [draw(st.integers(1, 64)) for _ in kinds]
    texts = [draw(st.sampled_from(EXTREMES) | st.binary(min_size=1, max_size=8)) for _ in kinds]

    def damage(whole: bytes) -> bytes:
        for kind, place, length, text in zip(kinds, places, lengths, texts, strict=True):
            at = int(place * len(whole))
            before, after = whole[:at], whole[at:]
            whole = {
                "cut": before,
                "change": before + text + after[len(text) :],
                "out": before + after[length:],
                "in": before + text + after,
                "repeat": before + 2 * after[:length] + after[length:],
            }[kind]
        return whole

    return damage
