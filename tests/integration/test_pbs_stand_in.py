"""The stand-in for PBS itself: nothing of it outlives its session, its launcher starts real ranks, its checks can fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from login import wait
from pbs import cluster
from pbs.bench import Place
from pbs.cluster import Pbs, end_stale
from pbs.conformance import CHECKS, carry_out
from pbs.settings import NODES

from workflow.process import carriers, start_time

pytestmark = [pytest.mark.xdist_group("pbs"), pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
CHILD = """
import sys, time
from pbs.cluster import Pbs
from pbs.fixture import SETTINGS
server = Pbs(SETTINGS)
server.start()
server.run("qsub", *sys.argv[1:])
print(server.files.root, flush=True)
time.sleep(300)
"""


def written(folder: Path, text: str, *, nodes: int = 1) -> list[str]:
    """Write a job's script; give what `qsub` is to be called with."""
    script = folder / "job.sh"
    script.write_text(f"#!/bin/sh\ncd {folder}\n{text}\n")
    options = f"-A p -q {'prod' if nodes > 2 else 'debug'} -j oe -o {folder}/log -l walltime=120,filesystems=flare,select={nodes}"
    return [*options.split(), str(script)]


def ended(pbs: Pbs, job_id: str) -> int:
    wait(lambda: pbs.jobs()[job_id]["job_state"] == "F")
    return int(pbs.jobs()[job_id]["Exit_status"])


def test_what_a_killed_session_leaves_is_ended(pbs: Pbs, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", CHILD, *written(tmp_path, "setsid sleep 300 & sleep 300")]
    session = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    with session.stdout as said:
        root = Path(said.readline().strip())
    mark = f"PBS_CONF_FILE={root / 'pbs.conf'}"
    server = next(iter(json.loads((root / "owner.json").read_text())["children"]))
    wait(lambda: len(carriers(mark)) >= 3)
    session.send_signal(signal.SIGKILL)
    session.wait()
    wait(lambda: start_time(int(server)) is None)
    end_stale()
    wait(lambda: not carriers(mark))
    assert not root.exists()
    assert pbs.files.root.exists() and pbs.run("qstat", "-x") is not None, "a living session's server is left alone"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.os, "geteuid", lambda: 1000)
    assert "root" in cluster.missing()


def test_the_launcher_starts_ranks_on_the_nodes_of_its_job_alone(pbs: Pbs, tmp_path: Path) -> None:
    call = "mpiexec --no-vni --envall --hostfile hosts -ppn"
    text = f"""
    tail -n 1 "$PBS_NODEFILE" > hosts
    {call} 1 -n 1 test -e "$PBS_NODEFILE"; echo $? > nodefile
    cp "$PBS_NODEFILE" hosts
    {call} 2 -n 4 sh -c 'echo $(hostname) $PALS_RANKID $PALS_LOCAL_RANKID' | sort > ranks
    {call} 1 -n 2 sh -c 'exit 3'; echo $? > three
    {call} 1 -n 2 sh -c 'kill -9 $$'; echo $? > killed
    {call} 2 -n 2 true; echo $? > uneven
    {call} 1 -n 2 --cpu-bind=depth true; echo $? > unbound
    echo {NODES[-1]} > hosts; {call} 1 -n 1 true; echo $? > foreign
    """
    assert ended(pbs, pbs.run("qsub", *written(tmp_path, text, nodes=2)).strip()) == 0
    codes = ("nodefile", "three", "killed", "uneven", "unbound", "foreign")
    seen = {name: int((tmp_path / name).read_text()) for name in codes}
    assert seen.pop("killed") != 0
    assert seen == {"nodefile": 1, "three": 3, "uneven": 1, "unbound": 1, "foreign": 1}
    ranks = [line.split() for line in (tmp_path / "ranks").read_text().splitlines()]
    assert sorted((rank, local) for _, rank, local in ranks) == [("0", "0"), ("1", "1"), ("2", "0"), ("3", "1")]
    assert len({node for node, *_ in ranks}) == 2


def test_outside_a_job_the_launcher_starts_nothing(pbs: Pbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBS_NODEFILE", raising=False)
    done = subprocess.run(
        ["mpiexec", "--envall", "-n", "1", "-ppn", "1", "touch", "ran"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and "no job" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_another_server_does_not_pass_the_checks(pbs: Pbs, tmp_path: Path) -> None:
    pbs.change(name_limit=15)
    with pytest.raises(AssertionError):
        carry_out("names", Place(patience_s=5), tmp_path)


def test_the_checks_are_a_command_for_any_server(pbs: Pbs, tmp_path: Path) -> None:
    """They need nothing but commands on PATH; what they have no right to is left out, and said."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "pbs.conformance", "--walltime-s", "2", "--patience-s", "30"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name.rstrip(":") for _, name, *_ in lines} == set(CHECKS)
    assert "to stop the server needs rights" in done.stdout
