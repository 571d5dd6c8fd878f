"""The one reader of the JSON and safetensors files that fastdd writes, its one error, and how one is written.

A file is written whole or not at all, and the command that made it makes it again where it is absent. So the
error names the one file that cannot be used, says what is wrong with it, and the smallest remedy is to delete
that file and start the command again.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import InputError
from ..runtime.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = "start the same `fastdd run` command again, it continues where it stopped"
DELETE = f"delete it and {AGAIN}"
"""the remedy for most files"""
START_OVER = "start over with --fresh, which deletes the run there"
"""the last remedy for a folder that holds another run"""
LARGEST_TEXT = 1 << 28
"""bytes; a larger file of JSON or YAML is none of ours"""

INTEGERS = ("I", "U", "BOOL")
"""what the names of safetensors' dtypes without fractions begin with"""

R = TypeVar("R")


def missing(file: Path) -> InputError:
    """The error of a file that the run has not written yet."""
    return InputError(f"{file} is missing, so the run is not finished; {AGAIN}")


def damaged(file: Path, reason: str, remedy: str = DELETE) -> InputError:
    """The error of a file that cannot be used."""
    return InputError(f"{file} is damaged ({reason}); {remedy}")


def require_readable(file: Path, remedy: str = DELETE) -> int:
    """Refuse a path that is no file, or one that this process may not read.

    Returns:
        The size of the file in bytes.

    Raises:
        InputError: it is missing, something else than a file, empty, or cannot be opened.
    """
    try:
        found = file.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{file} is a folder, where a file belongs; move it away and {AGAIN}")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{file} is no plain file; {remedy}")
        with open(file, "rb"):
            pass
    except FileNotFoundError as error:
        raise missing(file) from error
    except PermissionError as error:
        raise InputError(
            f"{file} exists and cannot be read ({error.strerror}); change its permissions, and those of its "
            "folders, then start the same command again"
        ) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); {remedy}") from error
    if not found.st_size:
        raise damaged(file, "it is empty", remedy)
    return found.st_size


def read_text(file: Path, remedy: str = DELETE) -> str:
    """Text of a file.

    Raises:
        InputError: the file is missing, unreadable, too large or no text.
    """
    size = require_readable(file, remedy)
    if size > LARGEST_TEXT:
        raise damaged(file, f"it has {size / 1e6:.0f} MB, expected at most {LARGEST_TEXT / 1e6:.0f}", remedy)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, f"it is no UTF-8 text: byte {error.start}", remedy) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); {remedy}") from error


def read(file: Path, record: type[R], remedy: str = DELETE) -> R:
    """Content of a JSON file as a type: a model of pydantic, a TypedDict, or a ``list`` of one.

    Args:
        remedy: the smallest thing to do where the file cannot be used.

    Raises:
        InputError: the file is missing, unreadable, damaged, incomplete, or a value is of another type.
    """
    text = read_text(file, remedy)
    try:
        return TypeAdapter(record).validate_json(text, strict=True)
    except ValidationError as error:
        raise damaged(file, first_fault(error), remedy) from error


def first_fault(error: ValidationError) -> str:
    """The first fault: the key and what is wrong with it."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{where}: {message}" if where else message


class TensorFile:
    """An open safetensors file; a tensor is read when it is asked for.

    Args:
        remedy: the smallest thing to do where it cannot be used.

    Attributes:
        integers: names of the tensors that hold no fractions.
        metadata: texts by key.

    Raises:
        InputError: the file is missing, unreadable, cut short or no safetensors file.
    """

    def __init__(self, path: Path, remedy: str = DELETE) -> None:
        from safetensors import SafetensorError, safe_open

        self.path, self._remedy = path, remedy
        require_readable(path, remedy)
        try:
            self._file = safe_open(str(path), framework="pt")
            names = self._file.keys()
            headers = {name: self._file.get_slice(name) for name in names}
            self.shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
            self.integers = {
                name for name, header in headers.items() if header.get_dtype().startswith(INTEGERS)
            }
            self.metadata: dict[str, str] = self._file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise self.damaged(str(error).partition("\n")[0]) from error

    def damaged(self, reason: str) -> InputError:
        """The error of this file."""
        return damaged(self.path, reason, self._remedy)

    def note(self, key: str, record: type[R]) -> R:
        """The JSON that the file's metadata hold under a key, as a type.

        Raises:
            InputError: the file has no such key, or it says something else.
        """
        if key not in self.metadata:
            raise self.damaged(f"its metadata have no {key!r}")
        try:
            return TypeAdapter(record).validate_json(self.metadata[key], strict=True)
        except ValidationError as error:
            raise self.damaged(f"its metadata: {first_fault(error)}") from error

    def require(self, shapes: Mapping[str, tuple[int, ...]], integers: Collection[str] = ()) -> None:
        """Refuse a file that lacks one of these tensors, or has one of another shape or kind.

        Args:
            shapes: name -> shape; -1 stands for any size.
            integers: names of the tensors that hold integers; the others hold floating-point numbers.
        """
        for name, wanted in shapes.items():
            found = self.shapes.get(name)
            if found is None:
                raise self.damaged(f"it has no {name!r}")
            expected = [its if size == -1 else size for size, its in zip(wanted, found, strict=False)]
            if len(found) != len(wanted) or list(found) != expected:
                sizes = ", ".join("n" if size == -1 else str(size) for size in wanted)
                raise self.damaged(f"{name!r} is {list(found)}, expected [{sizes}]")
            if (name in self.integers) != (name in integers):
                kinds = ("integers", "fractions") if name in self.integers else ("fractions", "integers")
                raise self.damaged(f"{name!r} holds {kinds[0]}, expected {kinds[1]}")

    def tensor(self, name: str, *, finite: bool = True) -> Tensor:
        """A whole tensor, on the CPU.

        Args:
            finite: refuse NaN and infinite values.

        Raises:
            InputError: the file has no such tensor, or it holds NaN or infinite values.
        """
        return self.rows(name, 0, None, finite=finite)

    def rows(self, name: str, start: int, stop: int | None, *, finite: bool = True) -> Tensor:
        """Rows ``start`` to ``stop`` of a tensor, on the CPU; the others stay on the disk.

        Args:
            finite: refuse NaN and infinite values.

        Raises:
            InputError: the file has no such tensor or not so many rows, or a row holds NaN or infinite
                values.
        """
        shape = self.shapes.get(name)
        if shape is None:
            raise self.damaged(f"it has no {name!r}")
        count = shape[0] if shape else 1
        if stop is not None and stop > count:
            raise self.damaged(f"{name!r} has {count} rows, expected {stop}")
        rows: Tensor = self._file.get_slice(name)[start:stop] if shape else self._file.get_tensor(name)
        narrow = rows.element_size() == 1  # torch cannot look at these
        if finite and name not in self.integers and not (rows.float() if narrow else rows).isfinite().all():
            raise self.damaged(f"{name!r} holds NaN or infinite values")
        return rows

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, on the CPU.

        Raises:
            InputError: one holds NaN or infinite values.
        """
        return {name: self.tensor(name) for name in self.shapes}


class Record(BaseModel):
    """Content of a file: no keys but those declared, no infinite or undefined numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def write(file: Path, record: Record) -> None:
    """Write a file atomically: the fields that were given, in the order of the type."""
    write_json(file, record.model_dump(mode="json", exclude_unset=True))
