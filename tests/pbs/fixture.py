"""One stand-in for all tests of a session, and its record for whoever asks whether they really ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from login import Login, System

from pbs.cluster import Pbs, missing
from pbs.settings import Settings
from pbs.world import system_of

EVIDENCE = Path(__file__).parents[2] / "build" / "pbs-evidence.json"
SETTINGS = Settings(notice_s=1.0, kill_delay_s=2.0, session_s=0.4, ending_s=0.2, vanish_s=1.0)


@pytest.fixture(scope="session")
def pbs_server() -> Iterator[Pbs]:
    """Start the stand-in, or skip; tests that use it carry `xdist_group("pbs")`, so that one worker has it."""
    if lacking := missing():
        pytest.skip(f"no virtual nodes here, for want of {', '.join(lacking)}")
    server = Pbs(SETTINGS)
    try:
        server.start()
        yield server
        server.heal()
        EVIDENCE.parent.mkdir(exist_ok=True)
        EVIDENCE.write_text(json.dumps(server.evidence(), indent=1) + "\n")
    finally:
        server.stop()


@pytest.fixture
def pbs(pbs_server: Pbs, monkeypatch: pytest.MonkeyPatch) -> Pbs:
    """Give the stand-in without jobs and faults, with its commands ready to be called from this process."""
    pbs_server.heal()
    for name, value in pbs_server.environment.items():
        monkeypatch.setenv(name, value)
    return pbs_server


@pytest.fixture(scope="session")
def pbs_system(pbs_server: Pbs) -> System:
    """Give it as the batch system of a facility, for tests that run on any."""
    return system_of(pbs_server)


@pytest.fixture
def aurora(pbs: Pbs, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Login]:
    """Give the command as a user of Aurora has it, with other keys of the site where a test gives them."""
    with system_of(pbs).login(tmp_path, **getattr(request, "param", {})) as login:
        yield login
