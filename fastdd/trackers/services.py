"""Trackers of other packages: TensorBoard, Weights & Biases, MLflow. Each is imported when it is opened.

Scalars have the name ``STAGE/NAME``, such as ``recover deda/gaussian``. A run that is continued goes on in
the same place.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..config import Recipe, as_plain
from ..config.yaml_text import dump_yaml
from ..run_folder import RunFolder, read, write
from ..run_folder.reading import Record
from ..runtime.events import Event

PROJECT = "fastdd"
"""W&B's project and MLflow's experiment, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another"""


class TrackedRun(Record):
    """What a service calls a run."""

    id: str
    """its name there"""


def scalars(event: Event) -> Mapping[str, float]:
    """What of an event is drawn as curves: losses, accuracies, images/s and seconds, by name."""
    values = event.values
    if event.kind == "progress":
        return {f"{event.stage}/images per second": values["rate"]} if values["done"] else {}
    if event.kind == "end":
        return {f"{event.stage}/seconds": values["seconds"]}
    if event.kind in ("losses", "accuracy"):
        return {f"{event.stage}/{name}": value for name, value in values.items()}
    return {}


def place(event: Event) -> int:
    """Where an event lies across: its step, or the images done so far."""
    return int(event.values.get("done", 0)) if event.step is None else event.step


class TensorBoard:
    """Event files in the run folder; `tensorboard --logdir RUN/tensorboard` shows them."""

    def __init__(self, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder.tensorboard))

    def __call__(self, event: Event) -> None:
        for name, value in scalars(event).items():
            self.writer.add_scalar(name, value, place(event))
        if event.files:
            pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in event.files])
            self.writer.add_images(f"{event.stage}/images", pictures, place(event), dataformats="NHWC")
        if event.kind == "end":
            self.writer.flush()

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self.writer.close()


class WeightsAndBiases:
    """A run of W&B, which has the recipe's name and values."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        import wandb

        noted = folder.wandb / "run.json"
        known = read(noted, TrackedRun).id if noted.is_file() else None
        self.image = wandb.Image
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=recipe.name,
            config=as_plain(recipe),
            dir=str(folder.path),
            id=known,
            resume="allow",
        )
        self.stages: set[str] = set()
        if known is None:
            write(noted, TrackedRun(id=self.run.id))

    def __call__(self, event: Event) -> None:
        step = f"{event.stage}/step"
        if event.stage not in self.stages:  # each stage counts its own steps
            self.stages.add(event.stage)
            self.run.define_metric(f"{event.stage}/*", step_metric=step)
        if found := scalars(event):
            self.run.log({**found, step: place(event)})
        if event.files:
            pictures = [self.image(str(file), caption=file.parent.name) for file in event.files]
            self.run.log({f"{event.stage}/images": pictures})

    def close(self, *, failed: bool) -> None:
        """Send what is left."""
        self.run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow, which has the recipe as an artifact; the server is that of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self.client, self.metric = MlflowClient(), Metric
        if folder.mlflow.is_file():
            self.run = read(folder.mlflow, TrackedRun).id
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if known is None else known.experiment_id
        self.run = self.client.create_run(experiment, run_name=recipe.name).info.run_id
        self.client.log_text(self.run, dump_yaml(as_plain(recipe)), "recipe.yaml")
        write(folder.mlflow, TrackedRun(id=self.run))

    def __call__(self, event: Event) -> None:
        now, step = round(1000 * time.time()), place(event)
        found = [self.metric(_mlflow_name(name), value, now, step) for name, value in scalars(event).items()]
        if found:
            self.client.log_batch(self.run, metrics=found)
        for file in event.files:
            self.client.log_artifact(self.run, str(file), f"{_mlflow_name(event.stage)}/{file.parent.name}")

    def close(self, *, failed: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


def _mlflow_name(name: str) -> str:
    """A name in the letters that MLflow takes; ``sre2l+dire`` becomes ``sre2l_dire``."""
    return re.sub(r"[^\w\-. /]", "_", name)
