"""How hard each real image was while a network was trained: what coreset rules rank by.

Of each image, by its position in the training split, as sums over the epochs that showed it, with
p = softmax(logits) of the network in training and the one-hot o of its class y:

    error       |p - o|_2, over the first ``EARLY`` epochs (EL2N, Paul et al., 2021)
    margin      p_y - max of the others, over all epochs (AUM, Pleiss et al., 2020, with CCS's probabilities)
    forgotten   number of times that it was right in one epoch and wrong in the next that showed it (Toneva
                et al., 2019)
    learned     whether it was ever right

The images are augmented, as the training sees them. Cost: a softmax and some sums a step, 29 bytes an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.collective import summed
from ..runtime.files import write_tensors
from .card import METADATA_KEY

EARLY = 10
"""epochs whose errors are kept, as in CCS's code; the paper takes one early epoch of ten networks"""
FIELDS = {
    "error": torch.float32,
    "early": torch.int32,
    "margin": torch.float32,
    "shown": torch.int32,
    "forgotten": torch.int32,
    "learned": torch.bool,
    "right": torch.bool,
}
"""tensors [images] by name. early, shown: epochs that error and margin are of; right: whether it was right
when it was last shown"""


class ImageScores:
    """Sums of all training images, while a network is trained and afterwards."""

    def __init__(self, images: int, device: torch.device) -> None:
        self.fields = {
            name: torch.zeros(images, dtype=dtype, device=device) for name, dtype in FIELDS.items()
        }
        self._own = torch.zeros(images, dtype=torch.bool, device=device)

    @torch.no_grad()
    def add(self, epoch: int, logits: Tensor, labels: Tensor, positions: Tensor) -> None:
        """Note a batch of an epoch, in which an image occurs once.

        Args:
            logits: [B, classes].
            labels: int64 [B].
            positions: int64 [B] in the training split.
        """
        fields, at = self.fields, positions.to(logits.device)
        p, truth = logits.float().softmax(1), labels[:, None]
        own = p.gather(1, truth)
        if epoch < EARLY:
            fields["error"][at] += (p - torch.zeros_like(p).scatter_(1, truth, 1.0)).norm(dim=1)
            fields["early"][at] += 1
        fields["margin"][at] += (own - p.scatter(1, truth, -1.0).amax(1, keepdim=True))[:, 0]
        fields["shown"][at] += 1
        right = logits.argmax(1) == labels
        fields["forgotten"][at] += (fields["right"][at] & ~right).int()
        fields["learned"][at] |= right
        fields["right"][at] = right
        self._own[at] = True

    def merge(self) -> None:
        """Take over what other processes noted of their images in an epoch; all come together at its end."""
        shown = summed(self._own.to(torch.uint8)).bool()
        for name, values in self.stored().items():
            noted = summed(values * self._own)  # an image is shown by one process, so the sum is exact
            self.fields[name].copy_(torch.where(shown, noted, values))
        self._own.zero_()

    def stored(self) -> dict[str, Tensor]:
        """The sums as files have them: truth values as integers."""
        return {
            name: tensor.to(torch.uint8) if tensor.dtype is torch.bool else tensor
            for name, tensor in self.fields.items()
        }

    def load(self, stored: Mapping[str, Tensor]) -> None:
        """Take over the sums of a file."""
        for name, tensor in self.fields.items():
            tensor.copy_(stored[name])

    def error(self) -> Tensor:
        """Mean error of each image, float32 on the CPU; 0 for one that no early epoch showed."""
        return (self.fields["error"] / self.fields["early"].clamp(min=1)).cpu()

    def margin(self) -> Tensor:
        """Mean margin of each image, float32 on the CPU; 0 for one that no epoch showed."""
        return (self.fields["margin"] / self.fields["shown"].clamp(min=1)).cpu()

    def forgetting(self) -> Tensor:
        """Times that each image was forgotten, float32 on the CPU; infinite where it was never learned."""
        forgotten = self.fields["forgotten"].float()
        return forgotten.masked_fill(~self.fields["learned"], torch.inf).cpu()


def save_scores(path: Path, scores: ImageScores, data: str) -> None:
    """Write the sums to a safetensors file; ``data`` is the fingerprint of the training split."""
    tensors = {name: tensor.cpu() for name, tensor in scores.stored().items()}
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(data)})


def read_scores(path: Path, images: int, data: str, remedy: str) -> ImageScores:
    """Read the sums of the images of a training split.

    Args:
        data: fingerprint of the split.
        remedy: what to do where the file cannot be used.

    Raises:
        InputError: the file is missing or damaged, or of other images.
    """
    if not path.is_file():
        raise InputError(f"{path} {'is no file' if path.exists() else 'does not exist'}; {remedy}")
    file, scores = TensorFile(path, remedy), ImageScores(images, torch.device("cpu"))
    wanted = scores.stored()
    integers = [name for name, tensor in wanted.items() if not tensor.is_floating_point()]
    if file.note(METADATA_KEY, str) != data:
        raise file.damaged("it is of other training images")
    file.require(dict.fromkeys(wanted, (images,)), integers)
    scores.load(file.tensors())
    return scores
