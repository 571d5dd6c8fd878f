"""Teachers: networks by name, squeeze, weights and cards, and taps.

networks.py builds; small.py, stems.py and convnet.py hold the networks for small images. squeeze.py trains: start.py
(from which weights), passes.py (on which images), optimise.py (a step), checkpoint.py (what is kept between epochs).
load.py reads and writes weights, card.py says what they expect. taps.py gives the features of a trained network,
patches.py the moments of an activation in patches.
"""

from .card import Card, differences
from .load import Teacher, fingerprint, load_teacher, open_teacher, save_teacher
from .networks import build, outline
from .passes import Passes, open_passes
from .squeeze import EVALUATION_BATCH, Squeezed, accuracy, keep, squeeze
from .start import start
from .taps import Features, Taps, hooked_layers, layer_names

__all__ = [
    "EVALUATION_BATCH", "Card", "Features", "Passes", "Squeezed", "Taps", "Teacher", "accuracy", "build", "differences",
    "fingerprint", "hooked_layers", "keep", "layer_names", "load_teacher", "open_passes", "open_teacher", "outline",
    "save_teacher", "squeeze", "start",
]  # fmt: skip
