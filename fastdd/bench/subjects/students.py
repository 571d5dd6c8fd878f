"""A student's epoch on a small distilled set, against the released form of the same protocol.

Released (SRe2L's relabel_cifar, as DWA, INFER and DiRe have it): JPEG files in class folders, an
ImageFolder with PIL and RandomCrop, flip, ToTensor and Normalize image by image, a DataLoader with 2 workers
that start anew in every epoch, MixUp, a teacher in train mode that labels each batch, a contiguous student,
float32, AdamW without groups; the losses are read by the host at every step. Ours: the same protocol on the
same images in memory. What is compared is the gradient that a batch gives a student.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.io import encode_jpeg

from ...evaluate import AugmentedBatches
from ...evaluate.learner import student_optimizer
from ...evaluate.loss import add_gradient, student_loss
from ...models.build import build, to_device
from ...models.pooling import pool_in_pairs
from ...protocols import settle_student
from ...protocols.rules import SettledStudent
from ...recipes.students import resolve_student
from ...runtime.precision import on_device
from ...teachers import Card, Teacher
from ..work import Goal, Scale, Side, Tensors, Work

CLASSES, SIZE, BATCH, WORKERS, TEMPERATURE = 10, 32, 128, 2, 30
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@dataclass
class SmallSet:
    """A distilled set of smooth random images, in memory and as JPEG files in a folder that goes with it.

    Attributes:
        network: of the student and of the teacher that labels.
    """

    scale: Scale
    network: str
    count: int
    folder: TemporaryDirectory[str] = field(default_factory=TemporaryDirectory)

    def __post_init__(self) -> None:
        coarse = torch.rand(self.count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        images = (255 * F.interpolate(coarse, size=SIZE, mode="bilinear")).to(torch.uint8)
        for number, image in enumerate(images):
            slot, c = divmod(number, CLASSES)
            path = Path(self.folder.name) / f"new{c:03d}" / f"class{c:03d}_id{slot:03d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(encode_jpeg(image, 75).numpy()))
        self.images = images.to(self.scale.device)
        torch.manual_seed(0)
        built = to_device(build(self.network, CLASSES), self.scale.device).eval().requires_grad_(False)
        card = Card(self.network, tuple(map(str, range(CLASSES))), 3, mean=MEAN, std=STD)
        self.teacher = Teacher(built, card)

    def config(self, compiled: bool = False) -> SettledStudent:
        own = {
            "network": self.network,
            "batch": BATCH,
            "precision": self.scale.precision,
            "compile": compiled,
        }
        protocol = resolve_student({}, "sre2l-cifar").model_copy(update=own)
        return settle_student(protocol, self.count, CLASSES)

    def batches(self) -> AugmentedBatches:
        """Our batches."""
        return AugmentedBatches(self.config(), self.teacher, self.images, seed=0)

    @cached_property
    def mixed(self) -> Tensor:
        """The images [B, 3, H, W] of one batch, of which gradients are compared."""
        return next(iter(self.batches().epoch(0))).images

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """A new student, and a labeller with the teacher's weights, both in train mode."""
        torch.manual_seed(1)
        student, labeller = build(self.network, CLASSES), build(self.network, CLASSES)
        labeller.load_state_dict(self.teacher.network.state_dict())
        device = self.scale.device
        return student.to(device).train(), labeller.to(device).train().requires_grad_(False)

    # -- released ----------------------------------------------------------------------------------

    def released_loader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches of JPEG files as the released script reads them."""
        chain = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        files = datasets.ImageFolder(self.folder.name, chain)
        return DataLoader(files, BATCH, shuffle=True, num_workers=WORKERS, multiprocessing_context="fork")

    def released(self) -> Callable[[], float]:
        """The released epoch; it gives the sum of the losses."""
        student, labeller = self.networks()
        loader, device = self.released_loader(), self.scale.device
        optimizer = torch.optim.AdamW(student.parameters(), 1e-3, weight_decay=0.01)

        def epoch() -> float:
            total = 0.0
            for images, _ in loader:
                images, order = images.to(device), torch.randperm(len(images), device=device)
                ratio = float(torch.distributions.Beta(0.8, 0.8).sample())
                mixed = ratio * images + (1 - ratio) * images[order]
                optimizer.zero_grad()
                loss = released_loss(student, labeller, mixed)
                loss.backward()
                optimizer.step()
                total += loss.item()
            return total

        return epoch

    def released_gradient(self, dtype: torch.dtype = torch.float32) -> Tensors:
        """The gradient of the released loss of one batch, all parameters in a row."""
        student, labeller = (network.to(dtype) for network in self.networks())
        released_loss(student, labeller, self.mixed.to(dtype)).backward()
        return [flat_gradient(student)]

    # -- ours --------------------------------------------------------------------------------------

    def ours(self, compiled: bool = False) -> Callable[[], None]:
        config, (student, labeller) = self.config(compiled), self.our_networks()
        optimizer, source = student_optimizer(config, student), self.batches()
        loss_of = torch.compile(student_loss, dynamic=False) if compiled else student_loss

        def epoch() -> None:
            for batch in source.epoch(0):
                optimizer.zero_grad()
                add_gradient(loss_of, student, labeller, batch, config=config)
                optimizer.step()

        return epoch

    def our_gradient(self, compiled: bool = False) -> Tensors:
        """The gradient of our loss of the same batch."""
        return self.our_step(self.our_networks(), compiled)()

    def networks_of_torch(self) -> tuple[nn.Module, nn.Module]:
        student, labeller = (to_device(network, self.scale.device) for network in self.networks())
        return student, labeller

    def our_networks(self) -> tuple[nn.Module, nn.Module]:
        """The same with the pools that ``train_student`` gives them."""
        student, labeller = (pool_in_pairs(n, self.scale.device) for n in self.networks_of_torch())
        return student, labeller

    def our_step(
        self, networks: tuple[nn.Module, nn.Module], compiled: bool = False
    ) -> Callable[[], Tensors]:
        """Labels, loss and gradient of one batch; it gives the gradient."""
        config, (student, labeller) = self.config(compiled), networks
        loss_of = torch.compile(student_loss, dynamic=False) if compiled else student_loss
        batch = next(iter(self.batches().epoch(0)))

        def step() -> Tensors:
            student.zero_grad()
            add_gradient(loss_of, student, labeller, batch, config=config)
            return [flat_gradient(student)]

        return step


def released_loss(student: nn.Module, labeller: nn.Module, images: Tensor) -> Tensor:
    """KL of the student's softened logits to the labeller's, both at T = 30, without T squared."""
    with torch.no_grad():
        soft = F.softmax(labeller(images) / TEMPERATURE, 1)
    return F.kl_div(F.log_softmax(student(images) / TEMPERATURE, 1), soft, reduction="batchmean")


def flat_gradient(network: nn.Module) -> Tensor:
    """The gradients of all parameters in a row."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def epoch_work(scale: Scale, network: str, count: int) -> Work[SmallSet]:
    """A whole epoch: batches, labels, steps."""
    return Work(
        "epoch",
        f"an epoch of {network} on {count} images of {SIZE} x {SIZE}, batches of {BATCH}, online labels",
        lambda: SmallSet(scale, network, count),
        lambda images: images.released_gradient(torch.float64),
        tolerance=scale.tolerance,
        error="norm",
        count=count,
        unit="image",
        goals=(Goal("faster", 3, "released", side="ours_compiled"),),
        sides={
            "ours": Side(lambda images: images.ours(), lambda images: images.our_gradient()),
            "ours_compiled": Side(
                lambda images: images.ours(compiled=True),
                lambda images: images.our_gradient(compiled=True),
                compiled=True,
            ),
            "released": Side(lambda images: images.released(), lambda images: images.released_gradient()),
        },
    )


def step_work(scale: Scale, network: str, count: int) -> Work[SmallSet]:
    """A student's step, at full size in bf16 where it is fast, with our pools and with those of torch."""
    if not scale.quick:
        scale = replace(scale, precision=on_device("precision", "auto", scale.device))

    def side(networks: Callable[[SmallSet], tuple[nn.Module, nn.Module]]) -> Side[SmallSet]:
        return Side(
            lambda images: images.our_step(networks(images)),
            lambda images: images.our_step(networks(images))(),
        )

    return Work(
        "step",
        f"a step of {network} on {count} images of {SIZE} x {SIZE}, online labels, {scale.precision}",
        lambda: SmallSet(scale, network, count),
        lambda images: images.released_gradient(torch.float64),
        tolerance=scale.tolerance,
        error="norm",
        count=count,
        unit="image",
        sides={"ours": side(SmallSet.our_networks), "torch_pools": side(SmallSet.networks_of_torch)},
    )


def batches_work(scale: Scale, count: int) -> Work[SmallSet]:
    """The batches alone: everything but the networks. Draws differ, so the numbers of images are compared."""

    def ours(images: SmallSet) -> Callable[[], Tensors]:
        source = images.batches()
        return lambda: counted(batch.images for batch in source.epoch(0))

    def released(images: SmallSet) -> Callable[[], Tensors]:
        loader = images.released_loader()
        return lambda: counted(batch for batch, _ in loader)

    return Work(
        "batches",
        f"the augmented and mixed batches of an epoch of {count} images; their number is compared",
        lambda: SmallSet(scale, "resnet8", count),
        lambda images: [torch.tensor(float(count), dtype=torch.float64)],
        tolerance=1e-9,
        count=count,
        unit="image",
        sides={"ours": Side(ours), "released": Side(released)},
    )


def counted(batches: Iterable[Tensor]) -> Tensors:
    """How many images there are in all batches."""
    return [torch.tensor(float(sum(len(batch) for batch in batches)), dtype=torch.float64)]


def works(scale: Scale) -> list[Work]:
    """An epoch, a step in bf16, and the batches alone."""
    network, count = ("resnet8", 128) if scale.quick else ("resnet20", 1000)
    step = step_work(scale, "convnet3", 8 if scale.quick else BATCH)
    return [epoch_work(scale, network, count), step, batches_work(scale, count)]
