"""The sizes that a run's images could have: those that all its networks and formations take."""

from __future__ import annotations

from ..data.real_data import RealData
from ..distilled.formation import check_formation
from ..errors import InputError
from ..models.outline import Sizes, takes


def possible_sizes(real: RealData) -> Sizes:
    """Whether ``data.size`` of a run could be another side, in pixels.

    Args:
        real: the real images of the run, whose recipe has networks by the names that the user gave.
    """
    recipe, classes, channels = real.config, len(real.classes), real.data.channels
    matched = [method.match for method in recipe.arms.values() if method.match is not None]
    networks = [teacher.network for teacher in recipe.all_teachers.values()]
    networks += [student.network for student in recipe.all_students.values()]
    networks += [match.networks.network for match in matched if match.kernel is None]
    formations = [method.formation for method in recipe.arms.values() if method.formation is not None]
    given_experts = recipe.experts.path is not None and any(match.trajectory for match in matched)

    def possible(side: int) -> bool:
        if given_experts or (recipe.data.resize is not None and recipe.data.resize < side):
            return False
        shape = (channels, side, side)
        try:
            for formation in formations:
                check_formation(formation, shape)
        except InputError:
            return False
        return all(takes(name, classes, shape) for name in dict.fromkeys(networks))

    return possible
