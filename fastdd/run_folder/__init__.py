"""The run folder: names of its files (paths), their one reader (reading), what they say (results), and work
in it (session).

Everything that makes or reads a run stands above this package and asks it.
"""

from .paths import RunFolder, image_file
from .reading import DELETE, TensorFile, damaged, missing, read, read_text
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
    read_manifest,
    read_recipe,
    write,
)
from .session import Session, check_folder, delete_run, open_run

__all__ = [
    "DELETE",
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
    "TensorFile",
    "UnitLog",
    "UnitPlan",
    "check_folder",
    "damaged",
    "delete_run",
    "image_file",
    "missing",
    "open_run",
    "read",
    "read_manifest",
    "read_recipe",
    "read_text",
    "write",
]
