"""What a run gives back: its folder, its results, and its images, for Python and for notebooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from ..config import Recipe
from ..evaluate.loaded_set import LoadedSet, load
from ..run_folder import ArmResult, Manifest, Metrics, RunFolder, read, read_recipe
from ..run_folder.comparison import of_all


@dataclass(frozen=True, repr=False)
class RunArm:
    """An arm of a run.

    Attributes:
        folder: the run's files.
        name: the arm's name; ``random`` is the control.
    """

    folder: RunFolder
    name: str

    def __repr__(self) -> str:
        return f"RunArm({self.name!r} of {str(self.folder)!r})"

    @property
    def result(self) -> ArmResult:
        """Accuracies of its students and diversity of its images.

        Raises:
            InputError: the run has not come to its results.
        """
        return read(self.folder.metrics, Metrics).arms[self.name]

    def load(self, *, soft: bool = False) -> LoadedSet:
        """Its images as a torch Dataset; see ``fastdd.load``."""
        return load(self.folder.path, self.name, soft=soft)

    def images(self) -> Tensor:
        """Its images, uint8 [N, C, H, W], class after class."""
        return self.load().images


@dataclass(frozen=True, repr=False)
class RunResult:
    """A run and what its folder says.

    Attributes:
        folder: its files.
        manifest: where it comes from, and what it cost.
    """

    folder: RunFolder
    manifest: Manifest

    def __repr__(self) -> str:
        return f"RunResult({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @cached_property
    def metrics(self) -> Metrics:
        """All results, such as ``metrics.arms["deda"].last``.

        Raises:
            InputError: the run has not come to its results; it was told to stop before.
        """
        return read(self.folder.metrics, Metrics)

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return read_recipe(self.folder)

    @property
    def arms(self) -> dict[str, RunArm]:
        """The arms of which there are images, by name, such as ``arms["deda"].images()``."""
        return {name: RunArm(self.folder, name) for name in self.folder.arms()}

    def table(self) -> list[dict[str, JsonValue]]:
        """A row for each set and kind of students: accuracy, its difference from the control with a 95 %
        interval, bytes and cost. ``pandas.DataFrame(result.table())`` makes a table of it.

        Raises:
            InputError: the run has not come to its results.
        """
        from ..report.leaderboard import rows_of, source_of

        left_out = {"source"}
        rows = [asdict(row) for row in rows_of(source_of(self.folder.metrics))]
        return [{key: value for key, value in row.items() if key not in left_out} for row in rows]

    def _repr_html_(self) -> str:
        """The table and an image of each class, for notebooks."""
        from ..report.page import strips_of

        if not self.folder.metrics.is_file():
            return f"<p>{escape(repr(self))}</p>"
        metrics = self.metrics
        heads = ["", *(f"{name or 'student'} last %" for name in ("", *metrics.students)), "first images"]
        rows = []
        for name, uri in strips_of(self.folder.path):
            reached = [metrics.last(student).get(name, ()) for student in ("", *metrics.students)]
            means = [of_all(each) for each in reached]
            cells = [f"{100 * sum(each) / len(each):.1f}" if each else "–" for each in means]
            picture = f'<img src="{uri}" style="image-rendering: pixelated; height: 2.5em" alt="">'
            rows.append([escape(metrics.arms[name].title), *cells, picture])
        head = "".join(f"<th>{escape(text)}</th>" for text in heads)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
