"""Reader of images that are kept as JPEG or PNG files, wherever these lie."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from ...errors import InputError
from ...runtime.memory import processors
from ...runtime.progress import progress
from .layout import Source, Split

# Mean size in bytes of a file from which threads pay: a smaller image takes the interpreter, which only one
# thread can hold, as long as the decoder.
THREADED_BYTES = 8192
CHUNK = 256  # files hashed a task


class EncodedImages:
    """The images of a folder, an archive or shards, by number; a Reader (see dataset.py)."""

    def __init__(self, source: Source, root: str) -> None:
        self.source, self.root, self.files = source, root, source.listing.files
        self.layout = source.layout
        mean_bytes = sum(entry.size for entry in self.files) / max(1, len(self.files))
        self.threads = processors() if mean_bytes >= THREADED_BYTES else 1

    def pixels(self, index: int, channels: int) -> Tensor:
        """Decode one image.

        Raises:
            InputError: the file cannot be read or is no whole image; the message names it.
        """
        from ..loading.decode import decode
        from ..loading.verify import BadImage

        try:
            return decode(self.encoded(index), channels)
        except BadImage as error:
            raise self._bad(index, str(error)) from error

    def encoded(self, index: int) -> bytearray:
        """The bytes of one file.

        Raises:
            InputError: the file cannot be read; the message names it.
        """
        return self.part(index, 0, None)

    def part(self, index: int, first: int, size: int | None) -> bytearray:
        """``size`` bytes of one file from the byte ``first`` on; fewer where it is shorter.

        Raises:
            InputError: the file cannot be read; the message names it.
        """
        try:
            return self.source.read(self.files[index], first, size)
        except OSError as error:
            raise self._bad(index, f"cannot be read ({error.strerror})") from error

    def fingerprint(self, split: Split, contents: bool) -> str:
        """sha256 (hex) of the split and of the name and size of each file; of its bytes, too, if contents is set.

        Contents cost one read of every file.

        Raises:
            InputError: contents is set and a file cannot be read; the message names it.
        """
        digest = hashlib.sha256(f"{split}\n".encode())
        if not contents:
            for entry in self.files:
                digest.update(f"{entry.path}\0{entry.size}\n".encode("utf-8", "surrogateescape"))
            return digest.hexdigest()

        def hashes(numbers: range) -> list[str]:
            return [hashlib.sha256(self.encoded(number)).hexdigest() for number in numbers]

        count = len(self.files)
        chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
        with progress(f"fingerprint {split}", count) as bar, ThreadPoolExecutor(processors()) as pool:
            for numbers, found in zip(chunks, pool.map(hashes, chunks), strict=True):
                for number, content in zip(numbers, found, strict=True):
                    digest.update(
                        f"{self.files[number].path}\0{content}\n".encode("utf-8", "surrogateescape")
                    )
                bar.advance(len(numbers))
        return digest.hexdigest()

    def _bad(self, index: int, reason: str) -> InputError:
        where = f"{self.source.listing.folder}/{self.files[index].path}"
        return InputError(
            f"image {where!r} of {self.root!r} {reason}; `fastdd data check {self.root}` lists all such files"
        )
