"""Triton kernels and their launchers, one file for each file above that has a GPU form; needs Triton."""
