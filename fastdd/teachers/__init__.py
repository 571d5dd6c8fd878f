"""Teachers: the networks whose statistics are matched.

squeeze.py trains one, epoch by epoch (epochs.py): on which images (passes.py), by how many processes
(parallel.py), and with which state kept on disk between epochs (checkpoint.py). snapshots.py keeps embeddings
while it trains, image_scores.py how hard each image is. load.py reads and writes weights, and card.py
describes what they expect, embedding.py what makes a network a teacher. taps.py returns the features of a
trained network, patch_moments.py the moments of an activation in patches. The networks themselves are in
``fastdd.models``; layer_names.py names their layers, structure.py knows their code.
"""

from .card import Card, differences
from .checkpoint import epochs_done
from .embedding import require_embedding, require_no_nan, require_taps
from .image_scores import ImageScores, read_scores, save_scores
from .layer_names import (
    batch_norm_layers,
    hooked_layers,
    layer_names,
    mixed_layer_names,
    require_layers,
    single_layers,
    working_layers,
)
from .load import Teacher, fingerprint, load_teacher, open_teacher, save_teacher
from .parallel import check_shares
from .passes import Passes, open_passes
from .snapshots import Snapshots, images_of_snapshots, read_snapshots
from .squeeze import Squeezed, initial_network, save_squeezed, squeeze
from .taps import Features, Taps
from .training import EVALUATION_BATCH, NotFiniteError, WeightAverage, accuracy, decay_groups

__all__ = [
    "EVALUATION_BATCH",
    "Card",
    "Features",
    "ImageScores",
    "NotFiniteError",
    "Passes",
    "Snapshots",
    "Squeezed",
    "Taps",
    "Teacher",
    "WeightAverage",
    "accuracy",
    "batch_norm_layers",
    "check_shares",
    "decay_groups",
    "differences",
    "epochs_done",
    "fingerprint",
    "hooked_layers",
    "images_of_snapshots",
    "initial_network",
    "layer_names",
    "load_teacher",
    "mixed_layer_names",
    "open_passes",
    "open_teacher",
    "read_scores",
    "read_snapshots",
    "require_embedding",
    "require_layers",
    "require_no_nan",
    "require_taps",
    "save_scores",
    "save_squeezed",
    "save_teacher",
    "single_layers",
    "squeeze",
    "working_layers",
]
