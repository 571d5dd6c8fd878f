"""The run folder: names of its files (paths), what they say (results), and work in it (session).

Everything that makes or reads a run stands above this package and asks it.
"""

from .paths import RunFolder, image_file
from .results import (
    FORMAT,
    ArmResult,
    DataSplit,
    FullSetResult,
    Manifest,
    Metrics,
    StudentResult,
    SweepResults,
    TeacherTraining,
    UnitLog,
    UnitPlan,
    read,
    read_manifest,
    read_recipe,
    write,
)
from .session import Session, check_folder, delete_run, open_run

__all__ = [
    "FORMAT",
    "ArmResult",
    "DataSplit",
    "FullSetResult",
    "Manifest",
    "Metrics",
    "RunFolder",
    "Session",
    "StudentResult",
    "SweepResults",
    "TeacherTraining",
    "UnitLog",
    "UnitPlan",
    "check_folder",
    "delete_run",
    "image_file",
    "open_run",
    "read",
    "read_manifest",
    "read_recipe",
    "write",
]
