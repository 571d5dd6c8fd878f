"""What a run costs: counted on devices that are not there, priced, and measured on the one that is.

works.py, recover_works.py   the real code of each stage, one repetition of it, and how often it is done
subject.py                   what a run is made of, without its images and weights
fake_device.py               a device that has shapes and no values; counting.py counts there, and work.py
                             counts a work
devices.py, processor.py     prices: of GPUs from data sheets, of this processor as measured
storage.py                   bytes on disk
estimate.py                  all of it: time, memory and storage of each stage
trial.py                     about the same in a second, for a run that begins: a step of each stage, tried
profile.py                   the same works on the device that is there, under PyTorch's profiler
"""

from .devices import GPUS
from .estimate import Estimate, Part, StageEstimate, estimate

__all__ = ["GPUS", "Estimate", "Part", "StageEstimate", "estimate"]
