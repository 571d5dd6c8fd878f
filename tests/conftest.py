"""What several test files share: real data where there is some, small images, and a tiny run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers with as many threads as cores would wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"

import torch

if (
    not torch.cuda.is_available()
):  # read once, when Triton is imported, as torchvision does; see kernels/conftest.py
    os.environ.setdefault("TRITON_INTERPRET", "1")

import forked
from kernel_checks import interpreter_takes
from torchvision.io import encode_png

from fastdd_kernels import dispatch

if find_spec("hypothesis"):  # a machine for the kernels alone may lack it
    from hypothesis import settings

    settings.register_profile("suite", deadline=None, derandomize=True, database=None)
    settings.register_profile("long", deadline=None, max_examples=20_000)  # --hypothesis-profile long
    settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bad_input(group): a bad input, counted by group in the summary")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Workers begin with tests that stand together, which share their modules' fixtures, and a worker that
    has none left takes over some of another's."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of xdist whether it leaves out slow cases."""
    node.workerinput["samples"] = samples_cases(node.config)  # type: ignore[attr-defined]


def samples_cases(config: pytest.Config) -> bool:
    """Whether the whole suite is run, without ``FASTDD_EVERY_CASE=1``, which the weekly run has."""
    if hasattr(config, "workerinput"):
        return bool(config.workerinput["samples"])
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword
    return not chosen and not os.environ.get("FASTDD_EVERY_CASE")


def sampled(items: list[pytest.Item]) -> list[pytest.Item]:
    """What the whole suite runs of its tests: not all that is slow.

    Of a test that is marked as slow, or of the kernels' (which Triton's interpreter makes slow), and that has
    more than four cases, these are every third case and the last, since many cases take the same path. Slow
    tests with fewer cases are left out.
    """
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        if slow or item.path.parent.name == "kernels":
            cases.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    left: set[pytest.Item] = set()
    for each in cases.values():
        if len(each) > 4:
            left.update(item for place, item in enumerate(each[:-1]) if place % 3)
        else:
            left.update(item for item in each if item.get_closest_marker("slow") is not None)
    return [item for item in items if item not in left]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow cases of the whole suite, and let reports know the groups of bad inputs."""
    if samples_cases(config):
        kept = sampled(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept
    for item in items:
        for mark in item.iter_markers("bad_input"):
            item.user_properties.append(("bad_input", mark.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the bad inputs that were tried, by group; those that failed are not counted."""
    passed = terminalreporter.getreports("passed")
    found = Counter(
        value
        for report in passed
        if report.when == "call"
        for name, value in report.user_properties
        if name == "bad_input"
    )
    if found:
        groups = ", ".join(f"{group} {count}" for group, count in sorted(found.items()))
        terminalreporter.write_line(f"bad inputs refused: {found.total()} ({groups})")


DATA = Path(os.environ.get("FASTDD_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))

TINY = """\
description: A run of seconds for the tests.
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 2, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
method: {steps: 10, augment: {roll: [-1, 1]}}
arms:
  sre2l: {method: sre2l}
  deda: {method: deda}
  sre2l+dire: {method: sre2l, add: [dire]}
recover: {unit_images: 8, log_every: 5}
student: {network: resnet8, steps: 10, batch: 20, pad: 1, flip: 0.0, seeds: 2, evaluations: 2}
"""

PETS = """\
data: {root: ROOT, size: 16}
ipc: 3
teacher: {network: resnet8, epochs: 5, batch: 16, pad: 1}
arms: {deda: {method: deda, steps: 4}, sre2l: {method: sre2l, steps: 4, init: real}}
student: {network: resnet8, steps: 4, seeds: 1, evaluations: 1, labels: stored, mix: cutmix}
"""


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """A file of the shared data by name; the test is skipped where there is none."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"no {name} in {DATA}; set FASTDD_TEST_DATA")
        return DATA / name

    return find


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny recipe in a file of its own."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


@pytest.fixture(scope="session")
def fastdd_process() -> Callable[..., forked.Program]:
    """Start ``fastdd`` with some arguments as a process of its own, with one thread."""
    return partial(forked.start, "-m", "fastdd")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, fastdd_process: Callable[..., forked.Program]) -> Path:
    """The folder of a finished tiny run; beside it lie the recipe, ``stdout`` and ``stderr``. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    process = fastdd_process("run", folder / "tiny.yaml", "--out", folder / "out")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (folder / "stdout").write_text(out)
    (folder / "stderr").write_text(err)
    return folder / "out"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes in ImageFolder layout, told apart by color: 8 training and 3 test images each, 8 x 8
    pixels."""
    generator = torch.Generator().manual_seed(0)
    for label, name in enumerate(("cat", "dog")):
        for split, count in (("train", 8), ("test", 3)):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                image = torch.randint(0, 128, (3, 8, 8), generator=generator, dtype=torch.uint8)
                image[label] += 127
                (tmp_path / "pets" / split / name / f"{i}.png").write_bytes(bytes(encode_png(image).numpy()))
    return tmp_path / "pets"


@pytest.fixture
def pets_recipe(tmp_path: Path) -> Callable[[Path], Path]:
    """A file with a recipe for a folder or an archive such as ``pets``."""

    def write(root: Path) -> Path:
        (tmp_path / "pets.yaml").write_text(PETS.replace("ROOT", str(root)))
        return tmp_path / "pets.yaml"

    return write


@pytest.fixture(scope="session", autouse=True)
def _flat_maps() -> None:
    """No map of embeddings is a t-SNE, except where a test asks for ``tsne``."""
    with suppress(ImportError):  # a machine for the kernels alone may lack what fastdd needs
        import_module("flat_map")


@pytest.fixture
def tsne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of embeddings are those of users."""
    project = import_module("flat_map").tsne
    for module in ("embedding_map", "snapshot_figure"):
        monkeypatch.setattr(f"fastdd.report.{module}.project", project)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as ``fastdd_process`` has: sums in the same order, so the same bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def triton_device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the inputs of a test go, so that Triton kernels serve them."""
    if not dispatch.HAS_TRITON:
        pytest.skip("Triton is not installed")
    if torch.cuda.is_available():
        return torch.device("cuda")
    versions = {name: version(name) for name in ("numpy", "triton")}
    if not interpreter_takes(**versions):
        pytest.skip(f"Triton's interpreter fails with these versions: {versions}")
    monkeypatch.setattr(dispatch, "interpret_on_cpu", True)
    return torch.device("cpu")
