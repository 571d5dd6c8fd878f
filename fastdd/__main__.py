"""``python -m fastdd``, which is also how torchrun starts it: ``torchrun --nproc-per-node 2 -m fastdd bank
RECIPE``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
