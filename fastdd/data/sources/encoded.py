"""The images of a split that are kept as JPEG or PNG files, wherever these lie."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from ...errors import InputError
from ...runtime.memory import processors
from ...runtime.progress import progress
from ..decode import decode
from ..verify import BadImage
from .base import Fingerprint, FingerprintOf, Split, SplitImages
from .tree import ImageFiles, names_digest

# Mean bytes of a file from which threads pay: a smaller image takes the interpreter, which one thread alone
# can hold, as long as the decoder.
THREADED_BYTES = 8192
CHUNK = 256  # files a task hashes


class EncodedImages(SplitImages):
    """The images of a folder, an archive or shards."""

    def __init__(self, source: ImageFiles, root: str, split: Split) -> None:
        self.source, self.root, self.split = source, root, split
        self.layout, self.files = source.layout, source.listing.files
        self.counts, self.problems = source.listing.counts, source.listing.problems
        self.names, self.note = self.files.paths, source.listing.note
        mean_bytes = sum(self.files.sizes) / max(1, len(self.files))
        self.threads = processors() if mean_bytes >= THREADED_BYTES else 1

    def pixels(self, index: int, channels: int) -> Tensor:
        """Decode one image: uint8 [channels, h, w]."""
        try:
            return decode(self.encoded(index), channels)
        except BadImage as error:
            raise self._bad(index, str(error)) from error

    def encoded(self, index: int) -> bytearray:
        """The bytes of one file."""
        try:
            return self.source.read(self.files[index])
        except OSError as error:
            raise self._bad(index, f"cannot be read ({error.strerror})") from error

    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """sha256 of the split and of each file's name and size; for "contents", of each name and all bytes.

        A folder and an archive of it agree. Cost: nothing is opened; or one read of every file.
        """
        if wanted != "contents":
            known = self.source.listing.digest
            return Fingerprint(known or names_digest(self.split, self.files), "names")
        digest = hashlib.sha256(f"{self.split}\n".encode())

        def hashes(numbers: range) -> list[str]:
            return [hashlib.sha256(self.encoded(number)).hexdigest() for number in numbers]

        count = len(self.files)
        chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
        with progress(f"fingerprint {self.split}", count) as bar, ThreadPoolExecutor(processors()) as pool:
            for numbers, found in zip(chunks, pool.map(hashes, chunks), strict=True):
                for number, content in zip(numbers, found, strict=True):
                    line = f"{self.files[number].path}\0{content}\n"
                    digest.update(line.encode("utf-8", "surrogateescape"))
                bar.advance(len(numbers))
        return Fingerprint(digest.hexdigest(), "contents")

    def _bad(self, index: int, reason: str) -> InputError:
        where = f"{self.source.listing.folder}/{self.files[index].path}"
        return InputError(
            f"image {where!r} of {self.root!r} {reason}; `fastdd data check {self.root}` lists all such files"
        )
