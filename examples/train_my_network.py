"""Train a network of timm on a distilled set in plain PyTorch: ``python train_my_network.py [RUN ARM]``."""

import sys
from pathlib import Path

import timm
import torch
from torch.utils.data import DataLoader

import fastdd
from fastdd.data import open_dataset, open_loader

RUN, ARM = sys.argv[1:] or ("runs/labelled_digits", "deda")
if not sys.argv[1:]:
    fastdd.run(Path(__file__).with_name("labelled_digits.yaml"), RUN, until="label")

data = fastdd.load(RUN, ARM)
print(data)
channels = data.images.shape[1]
torch.manual_seed(0)
network = timm.create_model("resnet10t", num_classes=len(data.classes), in_chans=channels, stem_type="")
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
for epoch in range(40):
    for images, logits in data.views(epoch, batch=50):  # the views that the teacher labelled
        loss = fastdd.losses.distillation(network(images), logits, temperature=4.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    schedule.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

test = open_dataset("digits", "test")
batch = next(iter(open_loader(test, len(test), None, channels)))
with torch.no_grad():
    right = network.eval()(data.normalize(batch.images)).argmax(1) == batch.labels
print(f"{100 * right.float().mean():.1f} % of {len(right)} test images, from {len(data)} of {ARM}")

images, classes = next(iter(DataLoader(data, 64, shuffle=True)))  # without labels of views: any Dataset
