"""In use: relaxation and dynamics with each backbone trained on the quickstart's data."""

from __future__ import annotations

from pathlib import Path

import pytest
from backbone_models import BACKBONES

from bench.dynamics import LARGEST_DRIFT, PICOSECONDS, dynamics, make_stores, train


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("quickstart"), small=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_energy_is_kept_over_ten_picoseconds(backbone: str, stores: dict[str, Path], tmp_path: Path) -> None:
    """A molecule and a crystal, relaxed before: less than 1 meV an atom, at a temperature that says they have stayed whole."""
    checkpoint = train(backbone, stores, tmp_path / backbone, epochs=6)
    for what, run in dynamics(checkpoint, PICOSECONDS):
        assert run.drift < LARGEST_DRIFT, (what, run.drift)
        assert 50 < run.kelvin < 600, (what, run.kelvin)
