"""Memory foretold for forty configurations of all backbones, log-uniform from 50 MB to 4 GB, each measured in a fresh process."""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import pytest
from test_feasibility import measure

from model import registry
from model.feasibility import Batch, peak_memory_gb
from model.kernels import build as kernel
from model.specs import ModelSpec, Precision

MARGIN = 1.2
SMALLEST, LARGEST, COUNT = 0.05, 4.0, 40
CHEAP = (7, 14, 22)
"""Draws of 90 to 170 MB (EGNN, MACE, PNAEq) whose steps take 2 to 4 CPU-seconds: in every run of the tests."""
WIDTHS = {
    "dimenet": (16, 100),
    "mace": (8, 64),
    "egnn": (100, 600),
    "schnet": (100, 600),
    "painn": (100, 400),
    "pnaeq": (64, 200),
}
Drawn = tuple[ModelSpec, int, int, Precision]
"""Model, atoms, edges and precision."""


def draw(number: int) -> Drawn:
    """Return a random model with as many atoms as fill a share of the range that is even on a logarithmic scale."""
    generator, names = random.Random(number), registry.backbones()
    name, precision = names[number % len(names)], generator.choice(("fp64", "fp32", "bf16"))
    width = round(math.exp(generator.uniform(*map(math.log, WIDTHS[name]))))
    options = {"name": name, "layers": generator.randint(2, 4), "hidden": width}
    heads = {"head_layers": generator.randint(2, 3), "head_hidden": generator.randint(50, 300)}
    spec = ModelSpec.model_validate({"backbone": options, **heads})
    near = generator.randint(6, 30)
    wanted = math.exp(generator.uniform(math.log(SMALLEST), math.log(LARGEST)))
    foretold = lambda atoms: peak_memory_gb(spec, 2, Batch.even(atoms, near * atoms), precision)  # noqa: E731
    slope = (foretold(2000) - foretold(1000)) / 1000
    atoms = 4 * max(10, round((wanted - foretold(1000) + 1000 * slope) / slope / 4))
    return spec, atoms, near * atoms, precision


def measured_gb(drawn: Drawn) -> float:
    """Return the peak of live tensor bytes of a training step; plain torch is foretold, so the CPU's kernels stay away."""
    spec, atoms, edges, precision = drawn
    kernel.load = lambda _: kernel.Kernel(None, "plain torch is foretold")
    return measure(spec, 2, (atoms, edges), precision)


def ratios(numbers: Iterable[int]) -> list[float]:
    """Return foretold over measured for these draws."""
    drawn = [draw(number) for number in numbers]
    foretold = [peak_memory_gb(spec, 2, Batch.even(atoms, edges), precision) for spec, atoms, edges, precision in drawn]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return [mine / found for mine, found in zip(foretold, pool.map(measured_gb, drawn), strict=True)]


def test_they_span_the_range() -> None:
    foretold = [peak_memory_gb(spec, 2, Batch.even(a, e), precision) for spec, a, e, precision in map(draw, range(COUNT))]
    assert min(foretold) < 2 * SMALLEST and max(foretold) > LARGEST / 2
    assert {spec.backbone["name"] for spec, *_ in map(draw, range(COUNT))} == set(registry.backbones())


def test_some_are_foretold() -> None:
    found = ratios(CHEAP)
    assert all(abs(ratio - 1) <= 0.10 for ratio in found), found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_none_that_runs_out_is_called_feasible() -> None:
    found = ratios(range(COUNT))
    errors = sorted(abs(ratio - 1) for ratio in found)
    assert statistics.median(errors) <= 0.10, found
    assert errors[round(0.95 * COUNT) - 1] <= 0.20, found
    assert min(found) * MARGIN >= 1, found
