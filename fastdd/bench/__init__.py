"""The benchmark suite: what fastdd costs, beside what people use today.

Each subject has works, each work several sides that give the same result: ours, and its peers. A side is
compared with a float64 truth and then timed in turns with the others; beside the figures stands the floor,
from the bytes and operations that the work needs and what the machine can do.
"""
