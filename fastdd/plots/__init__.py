"""Figures for papers: what the page of a run shows, as figures of matplotlib.

    import fastdd
    figure = fastdd.plots.accuracy("runs/digits")
    fastdd.plots.save(figure, "accuracy.pdf")

Runs are given by their folders, or as ``fastdd.run`` returns them. Colors and markers of the arms are those
of the page. Figures have no titles, which stand in captions, and are as wide as a column of two; ``width``
says otherwise, in inches. Whiskers are 95 % confidence intervals of the mean over students, or one standard
deviation with ``error="deviation"``; one student has none. Students that diverged have no mark.

matplotlib is imported when the first figure is asked for.
"""

from .drawing import save
from .figures import accuracy, accuracy_by_bytes, accuracy_by_images, images, losses

__all__ = ["accuracy", "accuracy_by_bytes", "accuracy_by_images", "images", "losses", "save"]
