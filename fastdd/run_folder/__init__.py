"""The run folder: names of its files (paths), their one reader (reading), what they say (results),
whether they are of this version and unedited (manifest), and work in it (session).

Everything that makes or reads a run stands above this package and asks it.
"""

from .manifest import FORMAT, read_manifest, read_recipe, require_run
from .paths import RunFolder, image_file
from .reading import DELETE, TensorFile, damaged, missing, read, read_text, write
from .results import (
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
)
from .session import Session, check_folder, delete_run, open_run, refuse_deleting

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
    "refuse_deleting",
    "require_run",
    "write",
]
