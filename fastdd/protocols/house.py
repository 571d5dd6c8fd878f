"""The house protocol: the defaults of a recipe's section ``student`` (config/student.py)."""

from .registry import register_protocol

register_protocol("house", {})
