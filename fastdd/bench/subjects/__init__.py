"""The subjects of the suite, a file or folder each; the kernels have a folder of their own beside them."""
