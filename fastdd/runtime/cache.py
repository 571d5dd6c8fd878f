"""The folder in which fastdd keeps what can be made again; whoever deletes it loses time alone."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FASTDD_CACHE"
"""environment variable that names another folder, or where it is empty none"""


def cache_folder() -> Path | None:
    """``FASTDD_CACHE``, else ``fastdd`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.

    None: ``FASTDD_CACHE`` is set and empty, or the user has no home; then nothing is kept.
    """
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named) if named else None
    above = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    found = os.path.expanduser(above)
    return None if found.startswith("~") else Path(found) / "fastdd"
