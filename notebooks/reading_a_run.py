# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Reading a run
# A run is a folder of plain files. This reads a finished one; make one with `fastdd run digits`.

# %%
import json
from pathlib import Path

import torch

import fastdd
from fastdd.metrics import IntraClassCosine

# %%
RUN = "runs/digits"

# %%
run = Path(RUN)
metrics = json.loads((run / "metrics.json").read_text())
manifest = json.loads((run / "manifest.json").read_text())

# %% [markdown]
# ## Who won, and how surely?
# `last` is the accuracy after the last step, one number a seed. `above_control` is the difference from
# random real images, paired by seed, with a 95 % interval: where it holds zero, the set cannot be told
# apart from the control.

# %%
for arm, found in metrics["arms"].items():
    print(
        arm,
        [f"{100 * value:.1f} %" for value in found["last"] if value is not None],
        found.get("above_control"),
    )

# %%
fastdd.plots.accuracy(run)

# %% [markdown]
# Accuracies compare only under one protocol. The hash tells whether two runs had the same.

# %%
print(metrics["protocol"])

# %% [markdown]
# ## What did it cost?

# %%
for stage, work in manifest["stages"].items():
    print(f"{stage:24} {work['seconds']:8.1f} s {work['images']:8} images")
print(manifest["machine"])

# %% [markdown]
# ## How did the terms of the loss fall?

# %%
fastdd.plots.losses(run)

# %% [markdown]
# ## The images, as a torch Dataset
# Pixels are uint8, class after class. `soft=True` adds the teacher's logits where some are stored, and
# `data.views(epoch)` replays the views that students saw.

# %%
arms = list(metrics["arms"])
for arm in arms:
    data = fastdd.load(run, arm)
    cosine = IntraClassCosine()
    if len(data) > len(data.classes):
        cosine.update(data.normalize(data.images).flatten(1), data.labels)
        print(arm, data, f"mean cosine of a class's images, in pixels: {cosine.compute():.3f}")
    else:
        print(arm, data)

# %%
fastdd.plots.images(run, arms[-1])

# %% [markdown]
# ## Is it what it says it is?
# `fastdd check runs/digits` looks for test images in the set, repetitions, and claims that do not hold. The
# recipe in the folder makes the run again: `fastdd run runs/digits/recipe.yaml --out again`. Its images
# have the same bytes:

# %%
print(torch.stack([data.images.float().mean(), data.images.float().std()]))
print((run / "recipe.yaml").read_text()[:300])
