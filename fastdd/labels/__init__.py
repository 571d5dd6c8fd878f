"""Soft labels of a distilled set.

per_image.py: one label of each image as it is. The rest: labels of views, what a student sees of a sample in an epoch.
views.py draws views, render.py turns them into pixels; encoding.py writes logits in few bytes, pruning.py says which labelling
batches are kept and seen again, manifest.py, files.py and per_view.py keep them on disk, plan.py takes them from a recipe;
labelling.py labels, average.py with several teachers; fkd.py reads and writes the released layout.
"""

from .average import Average, averaged
from .encoding import Form, bytes_per_label, decode, encode
from .fkd import Foreign, export_fkd, import_fkd
from .labelling import label_views
from .manifest import Facts, fingerprint
from .per_image import ImageLabels, label, load_labels, read_labels, save_labels
from .per_view import Replay, StoredLabels, is_whole
from .plan import planned
from .pruning import Pool
from .render import mix, pil_views, show
from .views import Augmentation, Views, draw_views

__all__ = [
    "Augmentation",
    "Average",
    "Facts",
    "Foreign",
    "Form",
    "ImageLabels",
    "Pool",
    "Replay",
    "StoredLabels",
    "Views",
    "averaged",
    "bytes_per_label",
    "decode",
    "draw_views",
    "encode",
    "export_fkd",
    "fingerprint",
    "import_fkd",
    "is_whole",
    "label",
    "label_views",
    "load_labels",
    "mix",
    "pil_views",
    "planned",
    "read_labels",
    "save_labels",
    "show",
]
