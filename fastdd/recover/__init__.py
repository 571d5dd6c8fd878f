"""Recover: optimise synthetic images through the frozen teacher."""

from .plan import Batch, Unit, plan
from .stage import load_images, recover, save_images, unfinished
from .terms import tapped_layers

__all__ = ["Batch", "Unit", "load_images", "plan", "recover", "save_images", "tapped_layers", "unfinished"]
