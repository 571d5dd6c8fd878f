"""A training for its scores alone: how hard each real image is, where the teacher of a run is given."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .. import teachers
from ..config import Recipe
from ..data import Crop
from ..data.real_data import RealData
from ..errors import InputError, refusals_explained
from ..models.outline import network_for, outline
from ..runtime.devices import device_of
from ..runtime.distributed import is_main, own_share
from ..runtime.files import require_writable
from ..runtime.precision import float32_products, on_device
from ..runtime.seeds import derive, seeded


@refusals_explained()
@float32_products("fp32")
def score(recipe: Recipe, file: Path, epochs: int | None = None) -> Tensor:
    """Train the network of a recipe's teacher, and write how hard each training image was.

    A training that was killed continues after its last epoch; a file that is there already is replaced.

    Args:
        recipe: the resolved recipe; of its teacher all but the weights counts.
        epochs: passes over the training images; None: ``teacher.epochs``.

    Returns:
        The mean error of each training image, float32 [N].

    Raises:
        InputError: there are no epochs, the file cannot be written, or the training diverges.
    """
    if epochs is not None and epochs < 1:
        raise InputError(f"--epochs is {epochs}, expected 1 or more")
    require_writable(file, "name another file with --out")
    device = device_of(recipe.device)
    with seeded(recipe.seed):
        real = RealData(recipe, device)
        classes, given = len(real.classes), recipe.teacher
        name = network_for("teacher.network", given.network, classes, real.shape)
        outline("teacher.network", name, classes, real.shape, trains=True)
        config = given.model_copy(
            update={
                "network": name,
                "weights": None,
                "snapshots": (),
                "epochs": epochs or given.epochs,
                "precision": on_device("teacher.precision", given.precision, device),
            }
        )
        seed = derive(recipe.seed, "score")
        crop = None if config.scale is None else Crop(config.scale, flip=config.flip)
        share = own_share()
        teachers.check_shares(config, len(real.train), share, "teacher")
        checkpoint = file.with_name(f"{file.stem}-training.safetensors")
        squeezed = teachers.squeeze(
            config,
            real.classes,
            teachers.open_passes(
                real.train, real.data, config.batch, device, seed=seed, crop=crop, share=share
            ),
            teachers.open_passes(real.choice_set, real.data, teachers.EVALUATION_BATCH, device, share=share),
            seed=seed,
            device=device,
            data=real.train.fingerprint,
            checkpoint=checkpoint,
            scored=len(real.train),
        )
    assert squeezed.scores is not None  # they were asked for
    if is_main():
        teachers.save_scores(file, squeezed.scores, real.train.fingerprint)
        checkpoint.unlink(missing_ok=True)
    return squeezed.scores.error()
