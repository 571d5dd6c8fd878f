"""The page of a squeeze: the snapshots of the teachers, one self-contained file as the page of a run is."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, refusals_explained
from ..run_folder import DataSplit, RunFolder, read, read_manifest, read_recipe, read_text
from ..runtime.files import write_text
from .embedding_map import HEIGHT, WIDTH
from .figures import PANEL
from .reproduce import reproduction
from .snapshot_figure import snapshot_figures
from .templates import environment


@refusals_explained()
def report_squeeze(out: Path) -> Path:
    """Write the page of the snapshots of a run's teachers into its folder.

    Args:
        out: the run folder, finished up to its teachers.

    Returns:
        The path of the page.

    Raises:
        InputError: no teacher kept snapshots, or a file is missing or damaged.
    """
    folder = RunFolder(Path(out))
    recipe = read_recipe(folder)
    figures = snapshot_figures(folder, recipe)
    if not figures:
        raise InputError(
            f"{out} has no snapshots of a teacher; train one with "
            f"teacher.snapshots=[1,{recipe.teacher.epochs}]"
        )
    again = reproduction(recipe)
    page = (
        environment()
        .get_template("squeeze.html")
        .render(
            recipe=recipe,
            recipe_text=read_text(folder.recipe),
            manifest=read_manifest(folder),
            splits=read(folder.data, list[DataSplit]),
            figures=figures,
            map_size=(WIDTH, HEIGHT),
            geometry=PANEL,
            reproduction=again,
            command=again.command.replace("fastdd run", "fastdd squeeze"),
        )
    )
    write_text(folder.squeeze_page, page)
    return folder.squeeze_page
