"""The sample for parity plots: bounded, evenly spread, the same however ranks divide the work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import graph_of, molecule

from model.graph import AtomGraph
from model.multitask import Prediction
from model.parallel import Ranks
from model.training.loss import Deviations
from model.training.parity import MOST, PARITY_FILE, Parity

SMALL = graph_of([molecule(2, seed=3)])


def labelled(places: np.ndarray) -> AtomGraph:
    """One two-atom structure for each place, whose labels tell its place: energy 2·place, forces 10·place + component."""
    count = len(places)
    graph = SMALL.with_(
        graph=torch.arange(count).repeat_interleave(2),
        num_atoms=torch.full((count,), 2),
        branch=torch.zeros(count, dtype=torch.int64),
        energy=2.0 * torch.from_numpy(places).double(),
    )
    components = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    return graph.with_(forces=(10.0 * torch.from_numpy(places).double()[:, None, None] + components).reshape(-1, 3))


def sample(total: int, folder: Path, batch: int = 64) -> dict[str, list[list[float]]]:
    parity = Parity("test")
    for start in range(0, total, batch):
        places = np.arange(start, min(start + batch, total))
        graph = labelled(places)
        parity.expect("gfn1", places, total)
        parity.see(Deviations(Prediction(graph.energy + 1.0, graph.forces - 0.5), graph))
    parity.write(folder, Ranks(), None)
    written = json.loads((folder / PARITY_FILE).read_text())
    assert written["split"] == "test"
    return written["branches"]["gfn1"]


def test_a_small_split_is_kept_whole(tmp_path: Path) -> None:
    found = sample(5, tmp_path)
    assert found["energies"] == [[place, place + 0.5] for place in range(5)]
    expected = {(10.0 * place + component, 10.0 * place + component - 0.5) for place in range(5) for component in range(6)}
    assert {tuple(pair) for pair in found["forces"]} == expected
    assert len(found["forces"]) == 30


def test_a_large_split_is_sampled_evenly(tmp_path: Path) -> None:
    total = 7 * MOST + 11
    found = sample(total, tmp_path)
    places = [label for label, _ in found["energies"]]
    assert len(places) == len(found["forces"]) == MOST
    assert np.ptp(np.diff(places)) <= 1
    assert places[-1] == total - 1
    kinds = np.bincount([round(label) % 10 for label, _ in found["forces"]], minlength=6)
    assert (kinds > MOST // 7).all(), "all components, not x alone"


def test_batches_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert sample(3 * MOST, tmp_path, batch=50) == sample(3 * MOST, tmp_path / "b", batch=777)


def test_what_has_no_label_has_no_point(tmp_path: Path) -> None:
    graph = labelled(np.arange(3))
    graph.energy[1], graph.forces[0, 2] = torch.nan, torch.nan
    parity = Parity("validation")
    parity.expect("gfn1", np.arange(3), 3)
    parity.see(Deviations(Prediction(torch.zeros(3).double(), torch.zeros(6, 3).double()), graph))
    parity.write(tmp_path, Ranks(), None)
    found = json.loads((tmp_path / PARITY_FILE).read_text())["branches"]["gfn1"]
    assert (len(found["energies"]), len(found["forces"])) == (2, 17)


@pytest.mark.parametrize("total", [1, 2, MOST - 1, MOST, MOST + 1])
def test_no_size_is_special(total: int, tmp_path: Path) -> None:
    found = sample(total, tmp_path)
    assert len(found["energies"]) == min(total, MOST)
    assert 0 < len(found["forces"]) <= MOST
