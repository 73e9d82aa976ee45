"""The stand-in for PBS answers as the real server that was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SAMPLES
from pbs.bench import Left, Place
from pbs.cluster import Pbs
from pbs.conformance import CHECKS, carry_out

pytestmark = [pytest.mark.xdist_group("pbs"), pytest.mark.timeout(120)]


@pytest.mark.parametrize("name", CHECKS)
def test_the_stand_in_answers_as_the_real_server(pbs: Pbs, tmp_path: Path, name: str) -> None:
    down, pid = pbs.files.down, pbs.pid
    place = Place(
        disabled="visualization",
        limited="debug-scaling",
        walltime_s=2,
        patience_s=40,
        stop=f"touch {down}; kill -STOP {pid}",
        start=f"kill -CONT {pid}; rm {down}",
        records=SAMPLES / "pbs" if SAMPLES.is_dir() else None,
    )
    pbs.change(session_s=1.5)  # long enough to be seen before
    try:
        carry_out(name, place, tmp_path)
    except Left as why:
        pytest.skip(str(why))
