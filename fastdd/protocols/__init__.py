"""Protocols: how the papers' released code trains and tests students.

presets.py declares them, registry.py finds them by name, and rules.py puts numbers in place of what depends
on the set and on the network. Nothing here needs torch.
"""

from .registry import PROTOCOLS, preset, register_protocol
from .rules import SettledStudent, settle_student

__all__ = ["PROTOCOLS", "SettledStudent", "preset", "register_protocol", "settle_student"]
