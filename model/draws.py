"""How an epoch's draws are divided over branches: the one rule of samplers, forecasts and reports; imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from model.outcome import CampaignError

K = TypeVar("K")
REMEDY = "Give smaller shares, or take one away: it is then drawn by its size."
"""What to do about a `fault`."""
_ROUNDING = 1e-9
"""By how much written shares may miss one: 0.7, 0.2 and 0.1 do so in binary."""


@dataclass(frozen=True)
class Portion:
    """What is drawn of a branch in an epoch.

    Attributes:
        size: Its training structures.
        share: Part of all draws that is stated for it, or None.
        draws: Number of draws that is stated for it, or None; may be more than there are structures.
    """

    size: int
    share: float | None = None
    draws: int | None = None


def quotas(portions: Mapping[K, Portion], fraction: float = 1.0, temperature: float = 1.0) -> dict[K, int]:
    """Return the draws of each branch in an epoch; branches that are never drawn are left out.

    A branch with `draws` has exactly these. The others together draw `fraction` of their structures; a stated share is that part
    of *all* draws, and what is left is divided over the branches without one by size ** (1 / temperature). Where every branch
    states one, they need not add up to one (a stage may train on some of a file's branches): they keep their proportions.
    What is not whole is apportioned by largest remainder.

    Args:
        portions: By branch, whose order settles ties.
        fraction: Part of the structures that an epoch draws.
        temperature: 1 draws by size; the higher, the more even.

    Raises:
        CampaignError: The shares, or shares beside numbers of draws, leave nothing for a branch without.
    """
    drawn = {b: each for b, each in portions.items() if each.size > 0}
    fixed = {b: each.draws for b, each in drawn.items() if each.draws is not None}
    others = {b: each for b, each in drawn.items() if each.draws is None}
    rest = max(1, round(fraction * sum(each.size for each in others.values()))) if others else 0
    exact = {b: rest * part for b, part in _parts(others, rest, sum(fixed.values()), temperature).items()}
    found = {b: int(each) for b, each in exact.items()}
    by_remainder = sorted(exact, key=lambda b: found[b] - exact[b])
    for b in by_remainder[: rest - sum(found.values())]:
        found[b] += 1
    return {b: (found | fixed)[b] for b in drawn if (found | fixed)[b]}


def parts(portions: Mapping[K, Portion], fraction: float = 1.0, temperature: float = 1.0) -> dict[K, float]:
    """Return each branch's part of the draws, p_b: they add up to one, or are all zero where nothing is drawn.

    Raises:
        CampaignError: As `quotas`.
    """
    drawn = quotas(portions, fraction, temperature)
    return {b: drawn.get(b, 0) / (sum(drawn.values()) or 1) for b in portions}


def fault(shares: Iterable[float | None]) -> str:
    """Return what is wrong with the shares of branches that state no number of draws, None standing for no share; or nothing."""
    listed = list(shares)
    stated = [share for share in listed if share is not None]
    if sum(stated) > 1 + _ROUNDING:
        return f"shares of draws add up to {sum(stated):.6g}, more than all of them"
    if stated and len(stated) < len(listed) and sum(stated) > 1 - _ROUNDING:
        return f"shares of draws add up to {sum(stated):.6g}: nothing is left for branches without one"
    return ""


def _parts(others: Mapping[K, Portion], rest: int, fixed: int, temperature: float) -> dict[K, Fraction]:
    """Return the parts of `rest` draws, which stand beside so many fixed ones."""
    wrong = fault(each.share for each in others.values())
    weights = {b: _weight(each.size, temperature) for b, each in others.items() if each.share is None}
    stated = {b: Fraction(each.share) for b, each in others.items() if each.share is not None}
    if weights:
        stated = {b: share * (rest + fixed) / rest for b, share in stated.items()}
        if sum(stated.values()) >= 1:
            wrong = wrong or f"of {rest + fixed} draws in an epoch {fixed} are stated; the shares leave none to branches without"
    if wrong:
        raise CampaignError(wrong, "branches", REMEDY)
    left = 1 - sum(stated.values(), Fraction(0)) if weights else Fraction(0)
    whole = sum(weights.values(), Fraction(0)) or Fraction(1)
    scale = Fraction(1) if weights else sum(stated.values(), Fraction(0))
    return {b: stated[b] / scale if b in stated else left * weights[b] / whole for b in others}


def _weight(size: int, temperature: float) -> Fraction:
    return Fraction(size) if temperature == 1 else Fraction(size ** (1 / temperature))
