"""The bank: statistics of the real data, built in one pass, read one class at a time."""

from .build import build
from .store import Bank, save

__all__ = ["Bank", "build", "save"]
