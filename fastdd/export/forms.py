"""The forms in which a distilled set is written out for other libraries, and ``export``, which writes one.

A form is one file: it declares a ``Form`` and registers it in ``FORMS``. A package of somebody else's adds
its own with an entry point of the group ``fastdd.exports``, whose value is a ``Form``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..distilled.sets import DistilledSet
from ..errors import InputError, refusals_explained
from ..runtime.new_folders import new_folder, require_new
from ..runtime.registry import Registry
from .card import card
from .content import Content, gather, write_new

SHARD_MB = 500.0
LARGEST_SHARD_MB = 1e6


@dataclass(frozen=True)
class Form:
    """A form of export.

    Attributes:
        text: the form in words, for the card.
        write: the function (content, folder, shard_bytes) that writes the content into a new folder, in files
            of at most ``shard_bytes``.
        files: pattern of the files that hold images, relative to the folder, for the card's header.
        loading: three lines of Python that load the set, for the card. PATH stands for the folder, LAST for
            the number of the last shard in six digits.
        needs: the package that ``write`` imports, and the command that installs it; None: it needs none.
    """

    text: str
    write: Callable[[Content, Path, int], None]
    files: str
    loading: str
    needs: tuple[str, str] | None = None


FORMS: Registry[Form] = Registry("form", package="fastdd.export", group="fastdd.exports")


def register_export(name: str, form: Form) -> None:
    """Add a form, which ``export`` and ``fastdd export --to NAME`` then know.

    Raises:
        InputError: there is a form of that name already.
    """
    FORMS.register(name, form)


def form_named(name: str, shard_mb: float = SHARD_MB) -> Form:
    """The form of a name, if it can be written here; nothing is read for this.

    Args:
        name, shard_mb: as for ``export``.

    Raises:
        InputError: there is no such form, its package is not installed, or shards cannot have this size.
    """
    form = FORMS[name]
    if form.needs is not None and find_spec(form.needs[0]) is None:
        package, command = form.needs
        raise InputError(f"the form {name} needs {package}, which is not installed; {command}")
    if not 0 < shard_mb <= LARGEST_SHARD_MB:
        raise InputError(
            f"shards of {shard_mb:g} MB are not possible; expected more than 0, at most {LARGEST_SHARD_MB:g}"
        )
    return form


@refusals_explained()
def export(
    distilled: DistilledSet,
    form: str,
    out: str | Path,
    shard_mb: float = SHARD_MB,
    *,
    repository: str | None = None,
) -> Path:
    """Write a set in another form, with a dataset card.

    Soft labels go along where there is one row of logits for each image, in the run or in the export that the
    set was read from; stderr says where they stay behind. The folder is written beside its place and then
    renamed, so it is whole or absent. Cost: one PNG an image.

    Args:
        form: a name in ``FORMS``.
        out: a folder that is absent or empty.
        shard_mb: largest size of a shard or a Parquet file, in MB.
        repository: ORG/NAME on the hub under which the card's code loads the set; None: it loads the folder.

    Returns:
        The folder.

    Raises:
        InputError: there is no such form, out is not empty, a library is missing, or the disk is full.
    """
    chosen = form_named(form, shard_mb)
    require_new(out := Path(out))
    content = gather(distilled)
    shard_bytes = int(shard_mb * 1e6)
    last = f"{len(content.shards(shard_bytes)) - 1:06d}"
    loading = chosen.loading.replace("PATH", repository or out.name).replace("LAST", last)
    if content.left_behind is not None:
        print(f"{out}: {content.left_behind}", file=sys.stderr)
    with new_folder(out, distilled.images.numel()) as folder:
        chosen.write(content, folder, shard_bytes)
        text = card(content, chosen.text, files=chosen.files, loading=loading)
        write_new(folder / "README.md", text.encode())
    return out
