"""The command ended from outside: signals and too little memory give one line, and never a traceback."""

from __future__ import annotations

import argparse
import os
import signal

import pytest
import torch

from fastdd.cli import main, recipes

DEFAULT = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, number: int | None) -> int:
    """The exit status of a command in which a signal comes and an error follows."""

    def run(arguments: argparse.Namespace) -> None:
        try:
            if number is not None:
                os.kill(os.getpid(), number)
        finally:
            if error is not None:
                raise error

    monkeypatch.setattr(recipes, "_recipes", run)
    return main(["recipes"])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "ended by SIGTERM"),
        (signal.SIGHUP, "ended by SIGHUP"),
    ],
)
@pytest.mark.parametrize("error", [None, ImportError("numpy's core cannot be imported"), SystemError("x")])
def test_a_signal_ends_a_command_with_one_line_whatever_a_library_makes_of_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    said: str,
    error: BaseException | None,
) -> None:
    before = signal.signal(number, DEFAULT[number])  # a shell ignores some for what runs in the background
    try:
        assert ends_with(monkeypatch, error, number) == 128 + number
        assert capsys.readouterr().err == f"{said}; the same command continues where it stopped\n"
        assert signal.getsignal(number) == DEFAULT[number]
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ends_with(monkeypatch, None, signal.SIGHUP) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert ends_with(monkeypatch, error, None) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: the memory does not suffice; ")
    assert text.count("\n") == 1


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        ends_with(monkeypatch, RuntimeError("a defect"), None)
