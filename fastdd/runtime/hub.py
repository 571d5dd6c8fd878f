"""Data sets of the Hugging Face hub, ``hf:ORG/NAME[@REVISION]``: reading, getting and sending them.

A name means the files that lie in the cache of huggingface_hub, wherever that library has it. Nothing is
downloaded but by ``download``, which ``--download`` asks for, and nothing is sent but by ``push``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from ..errors import InputError

PREFIX = "hf:"
NAME = re.compile(r"hf:((?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SECONDS = 10.0
"""how long the hub may take to answer before it counts as out of reach"""

T = TypeVar("T")


def is_hub(path: str | Path) -> bool:
    """Whether a text, or a path made of it, names a data set of the hub."""
    return str(path).startswith(PREFIX)


@dataclass(frozen=True)
class HubSet:
    """A data set of the hub.

    Attributes:
        name: the text that names it.
        repository: ORG/NAME.
        revision: a branch, a tag or a commit; None: the default branch.
    """

    name: str
    repository: str
    revision: str | None

    @staticmethod
    def of(text: str | Path) -> HubSet:
        """The data set that a text names.

        Raises:
            InputError: it is no such name.
        """
        found = NAME.fullmatch(str(text))
        if found is None:
            raise InputError(
                f"{str(text)!r} names no data set of the hub; expected hf:ORG/NAME, or hf:ORG/NAME@REVISION"
            )
        return HubSet(found[0], found[1], found[2])

    @property
    def command(self) -> str:
        """The command that downloads it on a machine with a network."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.repository} --repo-type dataset{revision}"

    def cached(self) -> Path | None:
        """The folder of its files in the cache; None: it is not there."""
        hub = _library(self.name)
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            found = hub.snapshot_download(
                self.repository, repo_type="dataset", revision=self.revision, local_files_only=True
            )
        except LocalEntryNotFoundError:
            return None
        return Path(str(found))

    def folder(self) -> Path:
        """The folder of its files in the cache; no connection is made.

        Raises:
            InputError: it is not there, or huggingface_hub is not installed.
        """
        found = self.cached()
        if found is None:
            raise InputError(
                f"{self.name} is not in the cache of huggingface_hub ({_cache()}); add --download, or get it "
                f"elsewhere with `{self.command}` and copy its folder there"
            )
        return found

    def download(self) -> None:
        """Download its files into the cache, as far as they are not there.

        Raises:
            InputError: they cannot be downloaded, or huggingface_hub is not installed.
        """
        hub = _library(self.name)

        def fetch() -> None:
            hub.snapshot_download(self.repository, repo_type="dataset", revision=self.revision)

        reached(
            fetch,
            f"{self.name} cannot be downloaded",
            f"get it elsewhere with `{self.command}` and copy its folder into {_cache()}",
        )


def local_folder(path: str | Path) -> Path:
    """The folder that a path means: that of the cache for ``hf:ORG/NAME``, else the path itself.

    Raises:
        InputError: a name of the hub is none, or its files are not in the cache.
    """
    return HubSet.of(path).folder() if is_hub(path) else Path(path)


def download_named(texts: Sequence[str | Path | None]) -> None:
    """Download the data sets of the hub among some texts; other texts, and None, are left alone.

    Raises:
        InputError: one cannot be downloaded.
    """
    for text in texts:
        if text is not None and is_hub(text):
            HubSet.of(text).download()


def push(folder: Path, repository: str) -> str:
    """Send a folder to the hub, as a data set that is made if there is none; the library's own token is used.

    Args:
        folder: an export with its card.

    Returns:
        Where it is.

    Raises:
        InputError: it cannot be sent.
    """
    hub = _library("--push")

    def send() -> str:
        api = hub.HfApi()
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        return str(api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=str(folder)))

    return reached(
        send,
        f"{folder} cannot be sent to {repository}",
        f"the folder is there: send it elsewhere with `hf upload {repository} {folder} --repo-type dataset`",
    )


def require_repository(name: str) -> None:
    """Refuse a text that cannot name a repository to send to, or a machine without huggingface_hub."""
    if not REPOSITORY.fullmatch(name):
        raise InputError(f"--push {name!r} names no repository of the hub; expected ORG/NAME")
    _library("--push")


def reached(work: Callable[[], T], failed: str, remedy: str) -> T:
    """Do what needs the hub; where there is no network it fails at once.

    Args:
        work: what is done.
        failed: the beginning of the message where it fails.
        remedy: what to do then.

    Raises:
        InputError: it failed; the library's reason stands in the message.
    """
    try:
        require_reachable()
        return work()
    except Exception as error:  # clients of hubs fail in many ways
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{failed} ({reason:.160}); {remedy}") from error


def require_reachable() -> None:
    """Fail at once where there is no network: the library tries again for half a minute.

    Raises:
        OSError: the hub cannot be reached.
    """
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        with suppress(HTTPError), urlopen(constants.ENDPOINT, timeout=SECONDS):
            pass


def _library(what: str) -> ModuleType:
    """huggingface_hub.

    Raises:
        InputError: it is not installed; ``what`` needs it.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"{what} needs huggingface_hub, which is not installed; pip install 'fastdd[hub]'"
        ) from error
    return huggingface_hub


def _cache() -> str:
    """Where the library keeps what it downloaded."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
