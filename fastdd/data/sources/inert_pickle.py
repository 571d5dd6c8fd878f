"""The values in a pickle of plain data, read without unpickling: nothing in the file is ever called.

A pickle is a program, and running it runs whatever it names. Here its instructions are only listed (by
pickletools), and the few that build dicts, lists, tuples, numbers and text are carried out. Names are never
looked up: an array of bytes is recognized by the name of its constructor, and any other name is refused.
Cost: about 2 us an instruction; a batch of CIFAR-10 has 60,000.
"""

from __future__ import annotations

import pickletools
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

NUMBERS_AND_TEXT = (
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NEW_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
NAMES = (*NEW_ARRAY, "numpy ndarray", "numpy dtype", "_codecs encode")


class Refused(ValueError):  # noqa: N818  - it says what was refused
    """A pickle that holds more than plain data, or a damaged one; the message is the end of "FILE ..."."""


class Name(NamedTuple):
    """A name in the file, not looked up."""

    name: str


class Array:
    """Stands for an array until its contents are known; then a uint8 array."""

    pixels: np.ndarray | None = None

    def fill(self, state: object) -> None:
        """Take over the pixels.

        Args:
            state: what numpy pickles of an array: (version, shape, dtype, is in Fortran order, content).
        """
        if not isinstance(state, tuple):
            raise TypeError("the state of an array is no tuple")
        _, shape, kind, fortran, content = state
        if kind not in (("u1",), ("|u1",)):
            raise Refused("holds an array of another kind than bytes (uint8)")
        raw = content.encode("latin-1") if isinstance(content, str) else content
        self.pixels = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def read_plain(data: bytes) -> object:
    """The value of a pickle of dicts, lists, tuples, numbers, text, bytes and uint8 arrays.

    Args:
        data: the whole file, in protocol 0 to 4, written by Python 2 or 3.

    Returns:
        The value; text of Python 2 as str (Latin-1), an array as an ``Array``.

    Raises:
        Refused: the file asks for anything else, or is damaged.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack[-1]
            machine.step(opcode.name, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise Refused(f"is damaged or cut short ({error})") from error
    raise Refused("is cut short")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[object, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in NUMBERS_AND_TEXT:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in TUPLES:
            stack.append(self._pop(TUPLES[name]))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)

    def _build(self, name: str, argument: object) -> None:
        """Carry out an instruction that makes or fills a container, or names something."""
        stack = self.stack
        if name in ("EMPTY_LIST", "LIST"):
            stack.append(list(self._marked()) if name == "LIST" else [])
        elif name in ("EMPTY_DICT", "DICT"):
            stack.append(_pairs(self._marked() if name == "DICT" else ()))
        elif name == "TUPLE":
            stack.append(self._marked())
        elif name in ("APPEND", "APPENDS"):
            items = self._marked() if name == "APPENDS" else self._pop(1)
            self._last(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._marked() if name == "SETITEMS" else self._pop(2)
            self._last(dict).update(_pairs(items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            wanted = str(argument) if name == "GLOBAL" else " ".join(map(str, self._pop(2)))
            if wanted not in NAMES:
                raise Refused(f"asks for {wanted!r}, which plain data do not need; do not use this file")
            stack.append(Name(wanted))
        elif name == "REDUCE":
            maker, arguments = self._pop(2)
            stack.append(_made(maker, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            built = stack[-1]
            if isinstance(built, Array):
                built.fill(state)
            elif not isinstance(built, tuple):  # a dtype: its byte order does not matter to single bytes
                raise Refused("changes an object that is no array; do not use this file")
        else:
            raise Refused(f"holds the instruction {name}, which plain data do not need; do not use this file")

    def _last(self, kind: type[T]) -> T:
        """The value on top of the stack, which must be of a kind."""
        value = self.stack[-1]
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} where a {kind.__name__} is due")
        return value

    def _pop(self, count: int) -> tuple[object, ...]:
        if count > len(self.stack):
            raise IndexError("stack is empty")
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return taken

    def _marked(self) -> tuple[object, ...]:
        return self._pop(len(self.stack) - self.marks.pop())


def _made(maker: object, arguments: object) -> object:
    """What a call to one of NAMES stands for."""
    if not isinstance(maker, Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of what is no name")
    if maker.name in NEW_ARRAY:
        return Array()
    if maker.name == "numpy dtype":
        return arguments[:1]
    if maker.name == "_codecs encode" and arguments[1:] in (("latin1",), ("latin-1",)):
        return arguments[0].encode("latin-1")
    raise Refused(f"calls {maker.name!r} with unexpected arguments; do not use this file")


def _pairs(items: tuple[object, ...]) -> dict[object, object]:
    """A dict of keys and values that alternate; keys are text or numbers, whose hash is soon taken."""
    if not all(isinstance(key, str | bytes | int) for key in items[::2]):
        raise Refused("holds a dictionary whose keys are neither text nor numbers")
    return dict(zip(items[::2], items[1::2], strict=True))
