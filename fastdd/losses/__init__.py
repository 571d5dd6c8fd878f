"""Losses of students that learn from soft labels, for training loops of one's own.

loss = fastdd.losses.distillation(network(images), logits, temperature=20.0)
loss_of = fastdd.losses.of_protocol("sre2l-cifar")       # the protocol's own
"""

from .distillation import distillation
from .protocol import of_protocol

__all__ = ["distillation", "of_protocol"]
