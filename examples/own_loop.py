"""Distil handwritten digits with a loop of your own: ten images a class, from noise, in half a minute."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from fastdd_kernels import FrozenBatchNorm2d, RealEmbeddings, dire_loss, random_resample

torch.manual_seed(0)
digits = load_digits()
images = (
    torch.tensor(digits.images, dtype=torch.float32).div(8).sub(1).unsqueeze(1)
)  # [1797, 1, 8, 8] in [-1, 1]
labels = torch.tensor(digits.target)


def block(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


body = nn.Sequential(block(1, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
head = nn.Linear(64, 10)
teacher = nn.Sequential(body, head)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
for rows in (torch.randperm(1797)[:128] for _ in range(300)):
    loss = nn.functional.cross_entropy(teacher(images[rows]), labels[rows])
    optimizer.zero_grad(), loss.backward(), optimizer.step()

teacher.eval().requires_grad_(False)
layers = FrozenBatchNorm2d.convert(teacher)  # BatchNorm that notes its statistics: no hooks
real = RealEmbeddings.prepare([body(images[labels == c]) for c in range(10)])
synthetic = torch.randn(100, 1, 8, 8, requires_grad=True)  # class after class
targets = torch.arange(10).repeat_interleave(10)
optimizer = torch.optim.Adam([synthetic], lr=0.1)
for step in range(200):
    embeddings = body(random_resample(synthetic, scale=(0.7, 1.0), flip=0.0))
    terms = {
        "cross-entropy": nn.functional.cross_entropy(head(embeddings), targets),
        "BatchNorm": 0.05 * torch.stack([layer.loss() for layer in layers]).sum(),
        "DiRe": dire_loss(embeddings.unflatten(0, (10, 10)), real),
    }
    optimizer.zero_grad(), sum(terms.values()).backward(), optimizer.step()
    if step % 50 == 0 or step == 199:
        print(step, {name: round(value.item(), 4) for name, value in terms.items()})
