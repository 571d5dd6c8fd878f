"""Coverage and diversity as classes of ``torchmetrics.Metric``: for trainers, and for features in batches.

    covered = fastdd.metrics.Coverage(k=5)
    covered.update(real_features, real=True)
    covered.update(features, real=False)
    covered.compute()

They hold features until they are computed, gather them from all processes, and fit into a
``MetricCollection`` and a Lightning module. The functions are ``fastdd_kernels.coverage`` and its like.
"""

from .diversity import IntraClassCosine, VendiScore
from .neighbours import PRDC, Coverage, Density, Precision, Recall

__all__ = ["PRDC", "Coverage", "Density", "IntraClassCosine", "Precision", "Recall", "VendiScore"]
