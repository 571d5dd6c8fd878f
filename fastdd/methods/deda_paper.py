"""DEDA with what its paper takes from others: SRe2L's noise, learning rate, steps and augmentation.

The loss is that of ``deda`` (eq. 9). The paper says that it has the settings of prior works, SRe2L and LPLD,
and gives no numbers; these are SRe2L's. The aligned layers are the stages of the network, as in Figure 2: all
but the last, whose place the embedding takes. ``deda`` has the start, the learning rate and the layers with
which students learn more here.
"""

from ..config.sources import ours
from . import deda, sre2l
from .declaration import Declaration, Patch, register_method


def as_sre2l(patch: Patch) -> Patch:
    """What SRe2L says of start, augmentation and schedule in a patch of its values."""
    return {key: value for key, value in patch.items() if key in ("init", "augment", "steps", "lr", "betas")}


METHOD: Patch = {
    **deda.METHOD,
    **as_sre2l(sre2l.METHOD),
    "title": ours("DEDA at the paper's settings"),
    "terms": deda.terms("stages"),
}
ON = {dataset: as_sre2l(patch) for dataset, patch in sre2l.ON.items()}

register_method("deda-paper", Declaration(METHOD, deda.SCRIPTS, ON, deda.at))
