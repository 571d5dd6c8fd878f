"""Declare a method of one's own: SRe2L from real images, matched class by class, in a dozen values.

    python examples/own_method.py

It runs in seconds on the built-in digits and prints the accuracy of its students beside the control's.
"""

import tempfile
from pathlib import Path

import fastdd

fastdd.register_method(
    "calm",
    {
        "title": "Calm SRe2L",
        "init": "real",
        "batch": {"classes": "all", "slots": "all"},
        "augment": {"roll": [-1, 1]},
        "terms": {"ce": {"weight": 1.0}, "bn": {"weight": 0.05, "target": "class"}},
        "steps": 40,
        "lr": 0.02,
    },
)

RECIPE = """
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 3, pad: 1, flip: 0.0}
arms: {calm: {method: calm}}
student: {network: resnet8, steps: 60, batch: 20, pad: 1, flip: 0.0, seeds: 2, evaluations: 1}
metrics: {full_set: false}
"""

with tempfile.TemporaryDirectory() as folder:
    recipe = Path(folder) / "calm.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(recipe, out=Path(folder) / "run")
    for arm, found in run.metrics.arms.items():
        print(arm, [accuracy if accuracy is None else round(accuracy, 3) for accuracy in found.last])
