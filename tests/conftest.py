"""What tests of whole campaigns share: a site of their own, and the command as a user starts it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ase.parallel import world
from login import ROOT, Command

# ASE chooses its communicator at first use, and takes mpi4py where some package has imported it. DeepHyper imports it
# without starting MPI, and ASE would then end the process: let it choose now.
assert world.size == 1
# A shell starts background jobs with SIGINT ignored, and every process of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("slurm.fixture", "pbs.fixture")
SAMPLES = ROOT.parent / "shared" / "samples"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module that share something costly on one worker, for each worker would make its own."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            fixtures = item._fixtureinfo.name2fixturedefs.values()
            if any(each.scope == "module" for defined in fixtures for each in defined):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to spread the tests of one cluster over workers: each would start a cluster of its own.

    Raises:
        UsageError: This pytest does not take the groups that its pytest-xdist gives it.
    """
    if session.config.getoption("loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid} lost its group: install the versions in constraints.txt")


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Command]:
    """Give the command with a `local` site whose spool, node-local folders and times to live are the test's own."""
    sites = tmp_path / "sites"
    sites.mkdir()
    fields = yaml.safe_load((ROOT / "sites" / "local.yaml").read_text())
    fields["scheduler"] |= {"options": {"spool": str(tmp_path / "spool")}, "poll_s": 0.2}
    fields["node"] |= {"local": str(tmp_path / "node-local" / "{job}" / "{node}")}
    (sites / "local.yaml").write_text(yaml.safe_dump(fields))
    home = {"CAMPAIGN_SITES": str(sites), "XDG_CONFIG_HOME": str(tmp_path / "config"), "OMP_NUM_THREADS": "1"}
    command = Command(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT), **home})
    yield command
    for process in command.started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def samples() -> Path:
    """Give the folder of real records, or skip."""
    if not SAMPLES.is_dir():
        pytest.skip("the real records (../shared/samples) are not here")
    return SAMPLES
