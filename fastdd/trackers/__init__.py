"""Trackers: where the events of a run go (runtime/events.py).

log.jsonl gets them always. What the recipe's ``log`` names gets them too: a table in the run folder, or a
service, whose package is imported only then. None of them changes a result.
"""

from .opening import Tracker, require_trackers, tracked

__all__ = ["Tracker", "require_trackers", "tracked"]
