"""CV-DD (Cui et al., 2025): SRe2L++ through a committee of teachers, two of which vote at a time with equal weight.

The released code draws the two anew for each slot, and keeps them over its steps; here they are drawn for each step, so
that all slots hear all teachers. It also knows weights by the teachers' accuracy, which are not offered.
"""

from ..config.sources import code, ours
from . import sre2lpp

METHOD = {**sre2lpp.METHOD, "title": code("CV-DD"), "voters": ours(2)}
SCRIPTS, ON = sre2lpp.SCRIPTS, sre2lpp.ON
