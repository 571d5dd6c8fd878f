"""The experts of a run: what they must be, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ..config import Experts, Recipe, TrajectoryMatch
from ..data import real_sample
from ..data.real_data import RealData
from ..errors import InputError
from ..experts import ExpertBuffer, ExpertPlan, epochs_to_keep, experts_together, reach_of
from ..models.build import build, structure
from ..models.flat import FlatNetwork
from ..models.outline import outline
from ..models.pooling import pool_in_pairs
from ..run_folder import RunFolder, Session, refuse_deleting
from ..runtime.console import counted
from ..runtime.memory import require_memory
from ..runtime.seeds import derive

KEY = "match.networks.network"
"""Recipe key of the experts' network."""


@dataclass(frozen=True)
class RunExperts:
    """The experts that the arms with ``match.trajectory`` follow, given or to be trained.

    Attributes:
        arms: the arms that follow them.
        reach: the last epoch that a trajectory reads.
    """

    recipe: Recipe
    real: RealData
    arms: tuple[str, ...]
    network: str
    reach: int

    @staticmethod
    def of(recipe: Recipe, real: RealData) -> RunExperts | None:
        """The experts of a run; None where no arm matches trajectories.

        Raises:
            InputError: two arms follow experts of different networks.
        """
        networks: dict[str, str] = {}
        trajectories: dict[str, TrajectoryMatch] = {}
        for arm, method in recipe.arms.items():
            if method.match is not None and method.match.trajectory is not None:
                networks.setdefault(method.match.networks.network, arm)
                trajectories[arm] = method.match.trajectory
        if len(networks) > 1:
            (one, arm), (other, other_arm) = list(networks.items())[:2]
            raise InputError(
                f"arms.{arm} follows experts of {one} and arms.{other_arm} of {other}, but a run trains "
                f"experts of one network; use one {KEY}, or two runs"
            )
        if not networks:
            return None
        reach = reach_of(trajectories.values())
        return RunExperts(recipe, real, tuple(trajectories), next(iter(networks)), reach)

    @property
    def config(self) -> Experts:
        """The section ``experts`` of the recipe."""
        return self.recipe.experts

    @cached_property
    def plan(self) -> ExpertPlan:
        """What determines the experts.

        Raises:
            InputError: there is no such network, or ``experts.keep`` is less than the reach of trajectories.
        """
        config, teacher, real = self.config, self.recipe.teacher, self.real
        network = outline(KEY, self.network, len(real.classes), real.shape)
        FlatNetwork(network, KEY)  # refuses a network that is more than its weights
        return ExpertPlan(
            network=self.network,
            structure=structure(network),
            experts=config.count,
            epochs=epochs_to_keep(config, self.reach),
            images_per_class=config.images_per_class,
            lr=config.lr,
            batch=config.batch,
            siamese=config.siamese,
            precision=config.precision,
            mean=teacher.mean,
            std=teacher.std,
            shape=real.shape,
            resize=real.data.resize,
            classes=len(real.classes),
            data=real.train.fingerprint,
            seed=self.recipe.seed,
        )

    @property
    def given(self) -> Path | None:
        """Folder of the experts that the recipe gives, by it or by their run; None: the run trains them."""
        if self.config.path is None:
            return None
        run = RunFolder(Path(self.config.path))
        return run.experts if run.recipe.is_file() else run.path

    def group(self) -> int:
        """Experts trained together."""
        return experts_together(self.config, self.real.device)

    def flat_network(self, *, trained: bool = False) -> FlatNetwork:
        """Their network, on the device of the run; ``trained``: with the pools that are fast in training."""
        with torch.random.fork_rng(devices=[]):
            network = build(self.network, len(self.real.classes), self.real.shape[0])
        network = network.to(self.real.device)
        return FlatNetwork(pool_in_pairs(network, self.real.device) if trained else network, KEY)

    def images(self) -> torch.Tensor | None:
        """Positions of the real images that they learn from; None: all."""
        wanted = self.config.images_per_class
        return (
            None
            if wanted is None
            else real_sample(self.real.train, wanted, derive(self.recipe.seed, "experts"))
        )

    def check(self, out: Path, fresh: bool) -> None:
        """Refuse now, and not after hours, experts that do not fit. Nothing is written.

        Args:
            fresh: an earlier run in the folder will be deleted first.

        Raises:
            InputError: a network, a number of images or epochs, or given experts that cannot be used.
        """
        plan, given, train = self.plan, self.given, self.real.train
        if given is not None:
            if fresh:
                refuse_deleting("experts.path", given, out)
            buffer, kept = ExpertBuffer(given, "experts.path"), self.config.keep
            buffer.require(plan.model_copy(update={"epochs": self.reach}), self.flat_network().size)
            if plan.epochs > buffer.plan.epochs:
                raise InputError(
                    f"experts.keep is {kept}, but the experts in {given} have "
                    f"{counted(buffer.plan.epochs, 'epoch')}; set experts.keep to auto, or experts.path to "
                    "null to train others"
                )
            return
        wanted, fewest = plan.images_per_class, min(train.counts)
        if wanted is not None and wanted > fewest:
            name = train.classes[train.counts.index(fewest)]
            raise InputError(
                f"experts.images_per_class is {wanted}, but class {name!r} has {fewest} real images; lower "
                "it, or set it to null for all images"
            )
        images = len(train) if wanted is None else wanted * plan.classes
        C, H, W = plan.shape
        require_memory(
            images * C * H * W,
            f"to hold the {images} real images that experts learn from",
            "set experts.images_per_class to learn from fewer, or a smaller data.size",
        )

    def buffer(self, session: Session) -> ExpertBuffer:
        """The finished experts.

        Raises:
            InputError: they are not finished, or those given have changed.
        """
        folder = self.given or session.folder.experts
        buffer = ExpertBuffer(folder, "experts.path" if self.given else "")
        buffer.plan.require(self.plan, folder)
        return buffer
