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
    """Return by how much another branch's head is further from a branch's labels than its own head is, on the same structures.

    A head that has merely learned less is further off on the other branch's labels, but so it is on its own. The labels of two
    branches are called apart only where each of the two heads is further off than the other one on that one's labels.

    Args:
        own: Errors of each branch's head on its own labels, by seed.
        across: By seed: errors by branch whose labels they are, then by branch whose head answers.
    """
    rows = [_beside_own(labels, head, own, across) for labels, head in itertools.permutations(own[0], 2)]
    above = {(row["labels"], row["head"]): row for row in rows}
    for row in rows:
        back = above[row["head"], row["labels"]]
        for name in QUANTITIES:
            row[f"{name}_disagree"] = bool(_is_above(row, name) and _is_above(back, name))
    return rows


def _beside_own(labels: str, head: str, own: Sequence[Metrics], across: Sequence[Mapping[str, Metrics]]) -> dict[str, Any]:
    row: dict[str, Any] = {"labels": labels, "head": head}
    row |= {key: across[0][labels][head].get(key) or 0 for key in ("num_energies", "num_force_components")}
    for name, key in QUANTITIES.items():
        other = [found[labels][head].get(key) for found in across]
        pairs = zip(other, (found[labels].get(key) for found in own), strict=True)
        row[name] = _told(other)
        row[f"{name}_above_own"] = _told([None if o is None or i is None else o - i for o, i in pairs])
    return row


def _is_above(row: Mapping[str, Any], name: str) -> bool:
    found = row[f"{name}_above_own"]
    return found is not None and found["mean"] - found["ci95"] > 0


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
