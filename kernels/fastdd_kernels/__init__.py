"""Losses and statistics of dataset distillation: tensors in, tensors out."""
