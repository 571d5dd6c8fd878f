"""Teachers: networks by name, squeeze, weights and cards, and taps.

models/build.py builds; models/cifar_resnet.py, models/small_image.py and models/convnet.py hold the networks for small images. squeeze.py trains: initial_weights.py
(from which weights), passes.py (on which images), optimizer.py (a step), checkpoint.py (what is kept between epochs).
load.py reads and writes weights, card.py says what they expect. taps.py gives the features of a trained network,
patch_moments.py the moments of an activation in patches.
"""

from ..models.build import build, outline
from .card import Card, differences
from .initial_weights import start
from .layer_names import hooked_layers, layer_names, require_pooled
from .load import Teacher, fingerprint, load_teacher, open_teacher, save_teacher
from .passes import Passes, open_passes
from .squeeze import Squeezed, keep, squeeze
from .taps import Features, Taps
from .training import EVALUATION_BATCH, Average, accuracy, decay_groups

__all__ = [
    "EVALUATION_BATCH",
    "Average",
    "Card",
    "Features",
    "Passes",
    "Squeezed",
    "Taps",
    "Teacher",
    "accuracy",
    "build",
    "decay_groups",
    "differences",
    "fingerprint",
    "hooked_layers",
    "keep",
    "layer_names",
    "load_teacher",
    "open_passes",
    "open_teacher",
    "outline",
    "require_pooled",
    "save_teacher",
    "squeeze",
    "start",
]
