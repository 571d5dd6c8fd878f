"""Soft labels of a distilled set.

stored.py: one label of each image as it is. The rest: labels of views, what a student sees of a sample in an epoch.
views.py draws views, show.py turns them into pixels; forms.py writes logits in few bytes, pool.py says which labelling
batches are kept and seen again, facts.py, shards.py and store.py keep them on disk, plan.py takes them from a recipe;
label.py labels, average.py with several teachers; fkd.py reads and writes the released layout.
"""

from .average import Average, averaged
from .facts import Facts, fingerprint
from .fkd import Foreign, export_fkd, import_fkd
from .forms import Form, bytes_per_label, decode, encode
from .label import label_views
from .plan import planned
from .pool import Pool
from .show import mix, pil_views, show
from .store import Replay, StoredLabels, is_whole
from .stored import ImageLabels, label, load_labels, read_labels, save_labels
from .views import Augmentation, Views, draw_views

__all__ = [
    "Augmentation", "Average", "Facts", "Foreign", "Form", "ImageLabels", "Pool", "Replay", "StoredLabels", "Views",
    "averaged", "bytes_per_label", "decode", "draw_views", "encode", "export_fkd", "fingerprint", "import_fkd",
    "is_whole", "label", "label_views", "load_labels", "mix", "pil_views", "planned", "read_labels", "save_labels",
    "show",
]  # fmt: skip
