"""What few repetitions tell: means with 95 % confidence intervals by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

T_95 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
    11: 2.228,
    12: 2.201,
    13: 2.179,
    14: 2.160,
    15: 2.145,
    16: 2.131,
    17: 2.120,
    18: 2.110,
    19: 2.101,
    20: 2.093,
}
"""Student's t for a two-sided 95 % interval, by number of repetitions."""


@dataclass(frozen=True)
class Interval:
    """A mean and how far it may be off.

    Attributes:
        mean: Of the repetitions.
        half: Half the width of the 95 % confidence interval.
        values: The repetitions.
    """

    mean: float
    half: float
    values: tuple[float, ...]

    @property
    def is_positive(self) -> bool:
        """Say whether the interval lies above zero."""
        return self.mean - self.half > 0


def interval(values: Sequence[float]) -> Interval:
    """Return the interval of 2 to 20 repetitions.

    Raises:
        KeyError: More or fewer.
    """
    half = T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.mean(values), half, tuple(values))
