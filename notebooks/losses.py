# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # The losses alone, in another codebase
# Many repositories recover images as SRe2L's released code does: a teacher with forward hooks on its
# BatchNorm layers. Here is such a loop, and what changes when the hooks give way to `fastdd_kernels`, which
# needs torch alone. Then DiRe is added in two lines.

# %%
import time

import torch
from sklearn.datasets import load_digits
from torch import nn

from fastdd_kernels import FrozenBatchNorm2d, RealEmbeddings, dire_loss, intra_class_cosine

# %%
STEPS = 100

# %% [markdown]
# The codebase: a teacher of digits, trained for a moment.

# %%
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).div(8).sub(1).unsqueeze(1)
labels = torch.tensor(digits.target)


def block(c_in, c_out):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


body = nn.Sequential(block(1, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
head = nn.Linear(64, 10)
teacher = nn.Sequential(body, head)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
for rows in (torch.randperm(len(images))[:128] for _ in range(200)):
    loss = nn.functional.cross_entropy(teacher(images[rows]), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
teacher.eval().requires_grad_(False)

# %% [markdown]
# ## As it was: a hook on each BatchNorm


# %%
class Hook:
    def __init__(self, layer):
        self.handle = layer.register_forward_hook(self)

    def __call__(self, layer, inputs, output):
        x = inputs[0]
        mean, variance = x.mean((0, 2, 3)), x.permute(1, 0, 2, 3).flatten(1).var(1, correction=0)
        self.loss = (layer.running_var - variance).norm() + (layer.running_mean - mean).norm()


ten = torch.randn(100, 1, 8, 8)
hooks = [Hook(layer) for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)]
teacher(ten)
before = sum(hook.loss for hook in hooks)
for hook in hooks:
    hook.handle.remove()

# %% [markdown]
# ## As it is now: one line
# `convert` replaces the layers in place; each notes its statistics on the way, in one pass over its input.

# %%
layers = FrozenBatchNorm2d.convert(teacher)
teacher(ten)
after = torch.stack([layer.loss() for layer in layers]).sum()
print(f"by hooks {before.item():.6f}, now {after.item():.6f}")
torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)

# %% [markdown]
# ## DiRe on top
# The embeddings of the real images are prepared once. The control is the same loop without it.

# %%
real = RealEmbeddings.prepare([body(images[labels == c]) for c in range(10)])
targets = torch.arange(10).repeat_interleave(10)  # class after class


def recover(with_dire):
    """Mean cosine of pairs of a class (less: more diverse), its probability by the teacher, seconds."""
    torch.manual_seed(1)
    synthetic = torch.randn(100, 1, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([synthetic], lr=0.1)
    start = time.perf_counter()
    for _ in range(STEPS):
        embeddings = body(synthetic)
        loss = (
            nn.functional.cross_entropy(head(embeddings), targets)
            + 0.05 * torch.stack([layer.loss() for layer in layers]).sum()
        )
        if with_dire:
            loss = loss + dire_loss(embeddings.unflatten(0, (10, 10)), real)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        found = body(synthetic)
        cosine = torch.stack([intra_class_cosine(rows) for rows in found.unflatten(0, (10, 10))]).mean()
        sure = head(found).softmax(1).gather(1, targets[:, None]).mean()
    return cosine.item(), sure.item(), seconds


cosines = {}
for name, with_dire in (("SRe2L's loss (control)", False), ("with DiRe", True)):
    cosines[name], sure, seconds = recover(with_dire)
    print(f"{name}: cosine {cosines[name]:.3f}, probability of the class {sure:.2f}, {seconds:.1f} s")
