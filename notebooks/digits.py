# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Handwritten digits, end to end
# Ten images, one a class, are made of 1,438. Then a network of our own learns from them, and from ten
# random real images: the control.

# %%
import torch
from torch import nn

import fastdd
from fastdd.data import open_dataset, open_loader

# %%
ARMS = ["kip", "dm"]  # methods of the recipe `digits`; also sre2l, deda, sre2l+dire
OVERRIDES = []  # such as "ipc=10"
STEPS = 300  # of our own network

# %% [markdown]
# One call does all stages: it trains a teacher, makes the images, trains students, and writes a page. It
# may be interrupted and called again: it goes on where it stopped. `fastdd show digits` prints every value
# of the recipe and where it comes from.

# %%
run = fastdd.run("digits", out="runs/notebook-digits", overrides=OVERRIDES, arms=ARMS)
run

# %% [markdown]
# `random` is the control. A method is worth something where it beats that line, with the same students.

# %%
for row in run.table():
    accuracy = "–" if row["accuracy"] is None else f"{row['accuracy']:.1f} %"
    print(f"{row['student']}, {row['regime']} labels, {row['arm']}: {accuracy} {row['told'] or ''}")

# %%
fastdd.plots.images(run)

# %% [markdown]
# ## A network of our own
# The sets are torch Datasets. KIP and DM make images for students that learn from the classes alone, so
# cross-entropy will do.

# %%
test = open_dataset("digits", "test")
batch = next(iter(open_loader(test, len(test), None, channels=1)))


def accuracy_of(arm):
    """Of a small network that learned from one set."""
    data = fastdd.load(run.path, arm)
    images = data.normalize(data.images)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(network(images), data.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (network(data.normalize(batch.images)).argmax(1) == batch.labels).float().mean().item()


accuracies = {arm: accuracy_of(arm) for arm in ("random", *ARMS)}
for arm, value in accuracies.items():
    print(f"{arm}: {100 * value:.1f} %")

# %% [markdown]
# A set that is good for one kind of students may be poor for another: the page,
# `runs/notebook-digits/report.html`, shows three kinds.
