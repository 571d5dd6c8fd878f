"""Train a network with Lightning on a distilled set, and on as many random real images: the control.

    python train_with_lightning.py [RUN]

The teacher labelled every view that the network sees (``labelled_digits.yaml``); ``data.views`` replays them.
"""

import sys
from pathlib import Path

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

import fastdd
from fastdd.data import open_dataset, open_loader

RUN, EPOCHS = (sys.argv[1:] or ["runs/labelled_digits"])[0], 40
if not sys.argv[1:]:
    fastdd.run(Path(__file__).with_name("labelled_digits.yaml"), RUN, until="label")


class Student(lightning.LightningModule):
    def __init__(self, data):
        super().__init__()
        self.data, self.accuracy = data, MulticlassAccuracy(len(data.classes), average="micro")
        convolutions = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten()
        self.network = nn.Sequential(*convolutions, nn.Linear(512, len(data.classes)))

    def training_step(self, batch, index):
        images, logits = batch
        return fastdd.losses.distillation(self.network(images), logits, temperature=4.0)

    def validation_step(self, batch, index):
        logits = self.network(self.data.normalize(batch.images))
        self.accuracy(logits, batch.labels)
        self.log("accuracy", self.accuracy, batch_size=len(batch.labels))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.01)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)]

    def train_dataloader(self):  # anew for each epoch: its own views
        return DataLoader(list(self.data.views(self.current_epoch, batch=50)), batch_size=None)


test = open_dataset("digits", "test")
quiet = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
for arm in ("random", "deda"):
    lightning.seed_everything(0, verbose=False)
    epochs = {"max_epochs": EPOCHS, "check_val_every_n_epoch": EPOCHS, "reload_dataloaders_every_n_epochs": 1}
    trainer = lightning.Trainer(**epochs, **quiet)
    trainer.fit(Student(fastdd.load(RUN, arm)), val_dataloaders=open_loader(test, 128, None, 1))
    print(f"{arm}: {100 * trainer.callback_metrics['accuracy']:.1f} % of {len(test)} test images")
