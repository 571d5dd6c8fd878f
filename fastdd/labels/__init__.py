"""Soft labels of a distilled set: the logits that a teacher gives its images, stored for students.

One label an image (per_image.py), or one label a view (FKD): a view is what a student sees of a sample in an
epoch, cropped, flipped and mixed. For labels of views:

    plan.py          takes what is to be labelled from a recipe
    views.py         draws views; render.py turns them into pixels
    labelling.py     asks one or several teachers
    encoding.py      writes logits in few bytes
    pruning.py       says which labelling batches are kept, and which of them an epoch of training sees
    manifest.py, files.py, per_view.py    keep labels on disk and read them
    fkd.py, fkd_files.py    read and write the released FKD layout
"""

from .encoding import Form, LabelForm, Rest, bytes_per_label, decode, encode
from .fkd import export_fkd, import_fkd, plan_import
from .labelling import MeanLogits, average_logits, label_views
from .manifest import Averaging, LabelManifest, fingerprint_of_parts, images_fingerprint
from .per_image import ImageLabels, label_images, load_labels, load_labels_of, read_labels, save_labels
from .per_view import Replay, StoredLabels, is_whole
from .plan import check_form, check_pool, check_views, label_epochs, plan_labels, warning_of
from .pruning import LabelPool
from .render import mix_views, render_views, render_views_with_pil
from .views import Augmentation, Views, draw_views

__all__ = [
    "Augmentation",
    "Averaging",
    "Form",
    "ImageLabels",
    "LabelForm",
    "LabelManifest",
    "LabelPool",
    "MeanLogits",
    "Replay",
    "Rest",
    "StoredLabels",
    "Views",
    "average_logits",
    "bytes_per_label",
    "check_form",
    "check_pool",
    "check_views",
    "decode",
    "draw_views",
    "encode",
    "export_fkd",
    "fingerprint_of_parts",
    "images_fingerprint",
    "import_fkd",
    "is_whole",
    "label_epochs",
    "label_images",
    "label_views",
    "load_labels",
    "load_labels_of",
    "mix_views",
    "plan_import",
    "plan_labels",
    "read_labels",
    "render_views",
    "render_views_with_pil",
    "save_labels",
    "warning_of",
]
