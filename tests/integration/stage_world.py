"""Stages run one after another by real agents with real model commands, without a scheduler or a driver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write
from tasks import class_source, crystals

from workflow.receipt import Receipt, read_receipt
from workflow.request import Request, write_request
from workflow.rundir import AttemptDir, RunDir
from workflow.site import load_site

ROOT = Path(__file__).parents[2]
PERIODS = {"heartbeat_s": 0.3, "ttl_s": 8.0, "stop_margin_s": 4.0, "stalled_s": 60.0, "kill_after_s": 5.0}


@dataclass
class StageWorld:
    """A campaign's folder and the receipts of its stages so far."""

    campaign: Path
    branches: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]
    receipts: dict[str, Receipt] = field(default_factory=dict)
    previous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    agent: tuple[str, ...] = ("-m", "workflow.allocation.agent")

    def attempt(
        self, stage: str, kind: str, *, walltime_s: float = 300.0, link: int = 1, links: int = 1, **spec: Any
    ) -> AttemptDir:
        """Make the folder, the request and the fence of an attempt."""
        attempt = RunDir(self.campaign).attempt(stage, link, 1)
        attempt.run.mkdir(parents=True)
        site = load_site("local").model_dump(mode="json")
        site["node"]["local"] = str(self.campaign / "node-local" / "{job}" / "{node}")
        site["periods"] |= PERIODS
        request = Request(
            campaign_id="0" * 32,
            campaign=str(self.campaign),
            name="test",
            token=f"c{stage}{link}",
            stage=stage,
            instance=0,
            kind=kind,
            spec={"kind": kind, "nodes": 2, **spec},
            link=link,
            links=links,
            attempt=1,
            nodes=2,
            walltime_s=walltime_s,
            site=site,
            branches=self.branches,
            sources=self.sources,
            splits={"seed": 1, "validation": 0.2, "test": 0.2},
            inputs=dict(self.receipts),
            previous=self.previous.get(stage, ()),
        )
        write_request(attempt.request, request)
        self.previous[stage] = (*request.previous, str(attempt.root.relative_to(self.campaign)))
        return attempt

    def start(self, attempt: AttemptDir, walltime_s: float = 300.0) -> subprocess.Popen[bytes]:
        """Start the agent as a batch script would."""
        own = {
            "LOCAL_JOB_ID": attempt.root.parent.parent.name,
            "LOCAL_JOB_NODES": "node1,node2",
            "LOCAL_JOB_END": str(time.time() + walltime_s),
        }
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, *self.agent, str(attempt.root)]
        with open(attempt.log, "ab") as log:
            return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)

    def run(self, stage: str, kind: str, *, walltime_s: float = 300.0, **keys: Any) -> Receipt:
        """Run one attempt to its end and keep its receipt as the stage's."""
        attempt = self.attempt(stage, kind, walltime_s=walltime_s, **keys)
        self.start(attempt, walltime_s).wait(timeout=walltime_s + 60)
        receipt = read_receipt(attempt.receipt)
        assert receipt is not None, attempt.log.read_text()
        self.receipts[stage] = receipt
        return receipt


def make_world(folder: Path) -> StageWorld:
    """Make two small data sets and two further sources, the second one labelled by a class."""
    sources: dict[str, dict[str, Any]] = {}
    for number, (name, elements, count) in enumerate(
        [("noble", ("Cu", "Ag"), 60), ("mixed", ("Cu", "Al"), 60), ("task", ("Cu", "Al"), 40)]
    ):
        path = folder / f"{name}.xyz"
        _write_clusters(path, elements, count, np.random.default_rng(number))
        sources[name] = {"reader": "extxyz", "path": [str(path)], "options": {"identity": "identity"}}
    paths = [str(path) for path in class_source(folder, crystals(40))]
    sources["wide"] = {"reader": "matbench_is_metal", "path": paths, "options": {}}
    campaign = folder / "campaign"
    campaign.mkdir()
    parts = [{name: sources[name] for name in names} for names in (("noble", "mixed"), ("task", "wide"))]
    return StageWorld(campaign, *parts)


def as_json(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt's JSON form, for messages."""
    return asdict(receipt)


def _write_clusters(path: Path, elements: tuple[str, ...], count: int, rng: np.random.Generator) -> None:
    frames = []
    for k in range(count):
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)[: int(rng.integers(3, 8))]
        atoms = Atoms(rng.choice(elements, len(grid)), positions=2.5 * grid + rng.normal(scale=0.1, size=grid.shape))
        atoms.calc = EMT()
        labelled = atoms.copy()
        labelled.info |= {"energy": atoms.get_potential_energy(), "identity": f"{path.stem}{k}"}
        labelled.arrays["forces"] = atoms.get_forces()
        frames.append(labelled)
    write(path, frames)
