"""The version of the distribution, in the one place from which packaging and run folders read it."""

__version__ = "0.2.0"
