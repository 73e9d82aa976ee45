"""What a comparison of ways to train came to: errors over seeds, how far labels disagree, and which order that allows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.intervals import Interval, interval

Metrics = Mapping[str, Mapping[str, Any]]
"""Errors by branch."""
QUANTITIES = {"energy": "energy_mae_mev_per_atom", "force": "force_mae_mev_per_angstrom"}


def error_rows(tests: Mapping[str, Sequence[Metrics]]) -> list[dict[str, Any]]:
    """Return, for each way and branch, the test errors over the seeds.

    Args:
        tests: By way, errors by branch of each seed, in the same order of seeds.
    """
    branches = list(next(iter(tests.values()))[0]) if tests else []
    return [
        {"branch": branch, "way": way, **{name: _told(_values(found, branch, key)) for name, key in QUANTITIES.items()}}
        for branch in branches
        for way, found in tests.items()
    ]


def disagreements(own: Sequence[Metrics], across: Sequence[Mapping[str, Metrics]]) -> list[dict[str, Any]]:
    """Return how far the labels of each two branches are apart at least.

    On structures of one branch, the error of another one's head is at most that head's own error and the difference of the
    labels. So the labels differ by at least the head's error there less its error on labels of its own, as far as it knows
    the one kind of structure as well as the other.

    Args:
        own: Errors of each branch's head on its own labels, by seed.
        across: By seed: errors by branch whose labels they are, then by branch whose head answers.
    """
    rows = []
    for labels, head in itertools.permutations(own[0], 2):
        counts = {key: across[0][labels][head].get(key) or 0 for key in ("num_energies", "num_force_components")}
        row: dict[str, Any] = {"labels": labels, "head": head, **counts}
        for name, key in QUANTITIES.items():
            there = [found[labels][head].get(key) for found in across]
            here = [found[head].get(key) for found in own]
            pairs = [(t, h) for t, h in zip(there, here, strict=True) if t is not None and h is not None]
            known = len(pairs) == len(own)
            least = interval([t - h for t, h in pairs]) if known else None
            row |= {name: _told(there), f"{name}_at_least": _interval(least)}
            row[f"{name}_disagree"] = bool(least and least.is_positive)
        rows.append(row)
    return rows


def orders(tests: Mapping[str, Sequence[Metrics]], disagree: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what may be said of the order of the ways, branch by branch.

    One way is called better than another where, seed against seed, the interval of the difference excludes zero; and nothing is
    said of a branch whose labels agree with all others' as far as can be told: there is nothing that heads of their own could
    be better at.
    """
    rows = []
    for branch in list(next(iter(tests.values()))[0]) if tests else []:
        for name, key in QUANTITIES.items():
            apart = any(each[f"{name}_disagree"] for each in disagree if branch in (each["labels"], each["head"]))
            found = _better(tests, branch, key) if apart else []
            rows.append({"branch": branch, "quantity": name, "labels_disagree": apart, "better": found})
    return rows


def _better(tests: Mapping[str, Sequence[Metrics]], branch: str, key: str) -> list[dict[str, Any]]:
    found = []
    for one, other in itertools.permutations(tests, 2):
        pairs = list(zip(_values(tests[one], branch, key), _values(tests[other], branch, key), strict=True))
        if any(a is None or b is None for a, b in pairs):
            continue
        gain = interval([b - a for a, b in pairs])
        if gain.is_positive:
            found.append({"way": one, "than": other, "by": _interval(gain)})
    return found


def _values(found: Sequence[Metrics], branch: str, key: str) -> list[Any]:
    return [each[branch].get(key) for each in found]


def _told(values: Sequence[Any]) -> dict[str, Any] | None:
    return None if any(each is None for each in values) else _interval(interval(values))


def _interval(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else {"mean": found.mean, "ci95": found.half, "values": list(found.values)}
