"""Launch prefixes, word for word, and the script that repeats a call by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.outcome import CampaignError
from workflow.allocation.launch import LAUNCHERS, Launcher, Placement, Setting, launcher, start, write_command, write_hosts
from workflow.errors import SiteError
from workflow.site import Node


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put empty launchers on PATH, and our interpreter where none stands beside it."""
    for name in ("srun", "mpiexec"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    return tmp_path


def placement(folder: Path, gpus: int = 1, options: tuple[str, ...] = ()) -> Placement:
    return Placement(("a", "b"), 8, 7, gpus, folder, options)


def test_slurm_states_everything_on_every_step(on_path: Path) -> None:
    argv = launcher("srun").argv(placement(on_path, options=("--gpu-bind=closest",)), ["python", "x"])
    assert " ".join(argv) == (
        f"{on_path}/srun -N 2 -n 16 --ntasks-per-node=8 -c 7 --gpus-per-task=1 --mem=0 --exact --kill-on-bad-exit=1 "
        f"--nodelist={on_path}/hosts.txt --gpu-bind=closest python x"
    )


def test_a_check_overlaps_with_what_runs(on_path: Path) -> None:
    node = Node(devices=8, cores=56, device_memory_gb=64, local="/tmp/x", backend="nccl")
    setting = Setting(LAUNCHERS["srun"], (), node, {})
    assert "--overlap" in setting.launcher.argv(setting.placement(("a",), 1, on_path, beside=True), ["true"])
    assert "--overlap" not in setting.launcher.argv(setting.placement(("a",), 1, on_path), ["true"])


def test_slurm_without_gpus_asks_for_none(on_path: Path) -> None:
    assert not [word for word in launcher("srun").argv(placement(on_path, gpus=0), ["x"]) if word.startswith("--gpus")]


def test_pals_reads_its_hosts_from_a_file(on_path: Path) -> None:
    argv = launcher("pals").argv(placement(on_path, options=("--no-vni",)), ["x"])
    assert " ".join(argv) == f"{on_path}/mpiexec --hostfile {on_path}/hosts.txt -n 16 -ppn 8 --envall --no-vni x"


def test_virtual_nodes_get_a_section_each(on_path: Path) -> None:
    argv = launcher("mpiexec").argv(placement(on_path), ["x", "y"])
    section = "-env LOCAL_NODE {} -n 8 x y"
    assert " ".join(argv[7:]) == f"{section.format('a')} : {section.format('b')}"
    assert argv[0] == str(on_path / "mpiexec")


@pytest.mark.parametrize("nodes", ["x1\nx2\n", None])
def test_virtual_nodes_inside_a_batch_job_stay_on_this_machine(tmp_path: Path, nodes: str | None) -> None:
    """MPICH reads the node file of a PBS job wherever it finds itself in one, and ends where that cannot be read."""
    file = tmp_path / "nodes"
    if nodes is not None:
        file.write_text(nodes)
    job = {"PBS_JOBID": "1.x", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_NODEFILE": str(file)}
    place = Placement(("a", "b"), 2, 1, 0, tmp_path)
    argv = launcher("mpiexec").argv(place, ["sh", "-c", "echo $LOCAL_NODE $PMI_RANK $PMI_HOSTNAME"])
    done = subprocess.run(argv, env={**os.environ, **job}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{'ab'[rank // 2]} {rank} localhost" for rank in range(4)]


def test_the_program_beside_our_interpreter_comes_first(on_path: Path) -> None:
    (on_path / "elsewhere").mkdir()
    (on_path / "elsewhere" / "mpiexec").touch()
    assert launcher("mpiexec").argv(placement(on_path), ["x"])[0] == str(on_path / "elsewhere" / "mpiexec")
    assert launcher("pals").argv(placement(on_path), ["x"])[0] == str(on_path / "mpiexec"), "a facility's own is another"


def test_a_missing_program_and_a_wrong_name_say_what_to_do(on_path: Path) -> None:
    for ours, words in ((True, "neither beside"), (False, "is not on PATH")):
        with pytest.raises(SiteError, match=words) as error:
            Launcher("no-such-launcher", (), ours=ours).argv(placement(on_path), ["x"])
        assert "module" in error.value.remedy
    with pytest.raises(CampaignError, match="Did you mean 'srun'"):
        launcher("srum")
    assert set(LAUNCHERS) == {"mpiexec", "srun", "pals"}


def test_nine_thousand_nodes_are_a_file_not_an_argument(on_path: Path) -> None:
    large = Placement(tuple(f"x4{i:06}c0s0b0n0.hostmgmt.cm.aurora.alcf.anl.gov" for i in range(9300)), 12, 8, 1, on_path)
    write_hosts(large)
    assert len((on_path / "hosts.txt").read_text().splitlines()) == 9300
    for name in ("srun", "pals"):
        assert sum(map(len, launcher(name).argv(large, ["x"]))) < 1000


@pytest.mark.parametrize(("backend", "ranks", "gpus", "cores"), [("nccl", 8, 1, 7), ("nccl", 4, 2, 14), ("gloo", 8, 0, 7)])
def test_ranks_share_a_node_evenly(tmp_path: Path, backend: str, ranks: int, gpus: int, cores: int) -> None:
    node = Node(devices=8, cores=56, device_memory_gb=64, local="/tmp/x", backend=backend)
    placed = Setting(LAUNCHERS["srun"], (), node, {}).placement(("a",), ranks, tmp_path)
    assert (placed.devices_per_rank, placed.cores_per_rank) == (gpus, cores)


HOSTILE = 'a b\'; touch hacked; echo "$HOME" `id` \\'


def test_command_sh_repeats_the_call_whatever_stands_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "with blank $and 'quotes'"
    folder.mkdir()
    code = "import os,sys; print(sys.argv[1], os.environ['WORD'], os.getcwd())"
    write_command(folder, [sys.executable, "-c", code, HOSTILE], {"WORD": HOSTILE}, "For a person.\nSecond line.")
    done = subprocess.run([str(folder / "command.sh")], capture_output=True, text=True, cwd="/")
    assert done.stdout == f"{HOSTILE} {HOSTILE} {folder}\n", done.stderr
    assert "# For a person.\n# Second line.\n" in (folder / "command.sh").read_text()
    assert [path.name for path in folder.iterdir()] == ["command.sh"]


def test_a_guard_passes_on_code_output_and_environment(tmp_path: Path) -> None:
    code = start(
        [sys.executable, "-c", "import os, sys; print(os.environ['WORD']); sys.exit(5)"], tmp_path, {"WORD": "x"}, 1.0
    ).wait(20)
    assert (code, (tmp_path / "stdout.log").read_text()) == (5, "x\n")


def test_a_guard_tells_of_a_command_that_is_not_there(tmp_path: Path) -> None:
    assert start(["/no/such/command"], tmp_path, {}, 1.0).wait(20) == 127
    assert "No such file" in (tmp_path / "stderr.log").read_text()
