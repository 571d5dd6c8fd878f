"""Prune a label budget: how many bytes of soft labels do students need?

    python examples/label_budget.py

A teacher's labels of every view outweigh the images. Here they are stored in four ways, from 2 bytes a
class to a tenth of the views at half a byte; the same students learn from each, on DEDA's images and on
random real ones, the control, which need the same bytes. Compare within a column: what a smaller budget
costs. Compare within a row: what the images are worth at that budget. It takes 20 seconds on a laptop.
"""

import tempfile
from pathlib import Path

import fastdd

BUDGETS = {
    "fp16": "{}",
    "int4": "{form: int4}",
    "top2": "{form: topk, topk: 2}",
    "int4-tenth": "{form: int4, keep: 0.1, replay: once}",
}
STUDENT = (
    "{network: convnet1, labels: stored, steps: 60, batch: 50, pad: 1, flip: 0.0, seeds: 2, evaluations: 1}"
)
RECIPE = f"""
ipc: 5
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 4, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{deda: {{method: deda, lr: 0.01, steps: 60, augment: {{roll: [-1, 1]}}}}}}
labels: {{per: view}}
student: {STUDENT.replace("stored", "hard")}
students: {{{", ".join(f"{name}: {STUDENT}" for name in BUDGETS)}}}
student_labels: {{{", ".join(f"{name}: {form}" for name, form in BUDGETS.items())}}}
metrics: {{full_set: false}}
"""

with tempfile.TemporaryDirectory() as folder:
    recipe = Path(folder) / "budget.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(recipe, f"{folder}/run", until="evaluate")
    for student in ("", *BUDGETS):
        cells = []
        for arm, found in run.metrics.arms.items():
            result = found.students[student] if student else found
            last = [accuracy for accuracy in result.last if accuracy is not None]
            cells.append(f"{arm} {100 * sum(last) / len(last):.1f} %")
        read = result.shipped.labels if student and result.shipped else 0
        print(f"{student or 'classes alone'}: {read:,} bytes of labels,", ", ".join(cells))
