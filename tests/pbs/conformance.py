"""How a PBS answers, checked by its commands alone: `python -m pbs.conformance` for whatever PBS is on PATH.

What stands here was seen on a real server (OpenPBS 23.06.06, with a hook that makes account, file systems and walltime
mandatory as on Aurora). The stand-in passes it too: so tests on it are tests on something that answers as the real one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pbs.bench import Bench, Left, Place

WAITS = "touch began; while [ ! -e go ]; do sleep 0.1; done"
_LONG = "a" * 230
_REFUSALS = {  # options, exit code, words
    "no files": (("-A", "{account}", "-q", "{queue}", "-l", "walltime=60"), 32, "Resource: filesystems is required to be set."),
    "no account": (("-q", "{queue}", "-l", "walltime=60,filesystems={filesystems}"), 32, "Account_Name is required to be set."),
    "too many nodes": (("{usual}", "-l", "select={more}"), 188, "Job violates queue and/or server resource limits"),
    "unknown queue": (("{usual}", "-q", "nowhere"), 170, "Unknown queue"),
    "closed queue": (("{usual}", "-q", "{routed}"), 174, "Access to queue is denied"),
    "unknown resource": (("{usual}", "-l", "colour=red"), 187, "Unknown resource Resource_List.colour"),
    "bad walltime": (("{usual}", "-l", "walltime=soon"), 166, "Illegal attribute or resource value Resource_List.walltime"),
    "usage": (("{usual}", "--no-such-option"), 2, "usage"),
    "bad name": (("{usual}", "-N", "a b"), 2, ""),
    "long name": (("{usual}", "-N", f"{_LONG}a"), 2, ""),
}  # fmt: skip


def check_refusals(bench: Bench) -> None:
    """A refusal is an exit code and words on stderr, and nothing on stdout."""
    place = bench.place
    usual = ("-A", place.account, "-q", place.queue, "-l", f"select=1,walltime=60,filesystems={place.filesystems}")
    cases = dict(_REFUSALS)
    if place.disabled:
        cases["disabled queue"] = (("{usual}", "-q", place.disabled), 173, "Queue is not enabled")
    for name, (options, code, words) in cases.items():
        filled = [option.format(**dataclasses.asdict(place), usual="", more=place.nodes + 1) for option in options]
        done = bench.hand_in("true", *(usual if "{usual}" in options else ()), *filter(None, filled), plain=True)
        assert (done.code, done.out) == (code, ""), (name, done)
        assert words in done.err, (name, done)
    missing = bench.run("qsub", *usual, "no-such-script")
    assert (missing.code, missing.out) == (1, ""), missing


def check_limit(bench: Bench) -> None:
    """A limit is refused with a code of its own."""
    if not bench.place.limited:
        raise Left("no queue with a limit of one job is named")
    bench.submit(WAITS, "-q", bench.place.limited, "-l", "select=2")
    done = bench.hand_in(WAITS, "-q", bench.place.limited, "-l", "select=2")
    assert (done.code, done.out) == (38, ""), done
    assert "would exceed queue generic's per-user limit" in done.err, done


def check_names(bench: Bench) -> None:
    """Names are whole in JSON, and cut in the short listing."""
    job_id = bench.submit(WAITS, "-N", _LONG)
    assert bench.job(job_id)["Job_Name"] == _LONG
    assert f"{_LONG[:10]}" in (short := bench.run("qstat", job_id).out) and "a* " in short and _LONG not in short


def check_lost_by_routing(bench: Bench) -> None:
    """A job that no destination takes gets an id, and is gone without a trace."""
    job_id = bench.submit("true", "-q", bench.place.route, "-l", "walltime=900:00:00")
    bench.wait(lambda: bench.run("qstat", "-x", job_id).code == 153, "the job to vanish")
    gone = bench.run("qstat", "-x", "-f", "-F", "json", job_id)
    assert gone.code == 153, gone
    assert "Unknown Job Id" in gone.err, gone
    assert job_id not in bench.answer("-x").get("Jobs", {})


def check_impossible(bench: Bench) -> None:
    """What no node has keeps a job waiting for ever."""
    job_id = bench.submit("true", "-q", bench.place.route, "-l", "select=1:system=polaris")
    bench.wait(lambda: bench.job(job_id).get("comment", "").startswith("Can Never Run: "), "the comment")
    seen = bench.job(job_id)
    assert (seen["job_state"], seen["substate"]) == ("Q", 10)
    bench.compare("queued_can_never_run", seen)


def check_dependency_on_an_unknown_job(bench: Bench) -> None:
    """A job that waits for an unknown one is over at once."""
    job_id = bench.submit("true", "-W", "depend=afterok:99999999")
    seen = bench.reached(job_id, "F")
    assert (seen["substate"], seen.get("Exit_status")) == (92, None), seen


def check_dependent(bench: Bench) -> None:
    """A job waits for the end of another however that comes, held by the system meanwhile."""
    first = bench.submit(f"{WAITS}; exit 5")
    second = bench.submit("true", "-W", f"depend=afterany:{first}")
    seen = bench.reached(second, "H")
    assert (seen["substate"], seen["Hold_Types"]) == (22, "s"), seen
    assert first in seen["depend"], seen
    (bench.folder / "go").touch()
    assert bench.reached(second, "F")["Exit_status"] == 0


def check_queries(bench: Bench) -> None:
    """Exit codes of queries, and of several ids only the first."""
    one, two = bench.submit("true"), bench.submit("true")
    for each in (one, two):
        bench.reached(each, "F")
    assert list(bench.answer("-x", one, two)["Jobs"]) == [one]
    assert {one, two} <= set(bench.answer("-x")["Jobs"])
    for arguments, code in ((("-x", "99999999"), 153), ((one,), 35)):
        done = bench.run("qstat", *arguments, "-f", "-F", "json")
        assert done.code == code, done
    for job_id, code in ((one, 35), ("99999999", 153)):
        assert bench.run("qdel", job_id).code == code


def check_nothing_to_list(bench: Bench) -> None:
    """`Jobs` is absent when there is nothing to list."""
    if "Jobs" in (fields := bench.answer()):
        assert fields["Jobs"]
        raise Left("other jobs are there")
    assert list(fields) == ["timestamp", "pbs_version", "pbs_server"]


def check_waiting_and_held(bench: Bench) -> None:
    """A full machine lets jobs wait; a held one waits in the routing queue."""
    usual = ("-q", bench.place.route)
    first = bench.submit(WAITS, *usual, "-l", f"select={bench.place.nodes}:system=aurora,place=scatter")
    if (seen := bench.reached(first, "R"))["substate"] == 41:  # else the session was known before anybody looked
        bench.compare("just_started", seen)
    waits = bench.submit("true", *usual, "-l", f"select={bench.place.nodes // 2}:system=aurora")
    bench.wait(lambda: bench.job(waits).get("comment", "").startswith("Not Running: "), "the comment")
    bench.compare("queued", bench.job(waits))
    held = bench.submit("true", *usual, "-h")
    bench.compare("held", bench.reached(held, "H"))
    assert bench.run("qdel", held).code == 0
    bench.compare("deleted_while_queued", bench.reached(held, "F"))
    bench.wait(lambda: bench.job(first)["substate"] == 42, "the session")
    bench.compare("running", bench.job(first))
    (bench.folder / "go").touch()
    bench.compare("finished_ok", bench.reached(first, "F"))
    assert bench.reached(waits, "F")["Exit_status"] == 0


def check_release(bench: Bench) -> None:
    """A hold is put and taken away."""
    job_id = bench.submit("true", "-h")
    assert bench.run("qrls", job_id).code == 0
    assert bench.reached(job_id, "F")["Exit_status"] == 0


def check_ends(bench: Bench) -> None:
    """Codes of scripts are those that a shell gives."""
    for name, text, code in (("failed_exit3", "exit 3", 3), ("killed9", "kill -9 $$", 137), ("", "no-such-command", 127)):
        seen = bench.reached(bench.submit(text), "F")
        assert (seen["substate"], seen["Exit_status"]) == (93, code), seen
        if name:
            bench.compare(name, seen)


def check_own_words(bench: Bench) -> None:
    """A job knows its id, its nodes and where it comes from; output goes where it was asked to, even to odd folders."""
    odd = bench.folder / "a b'c"
    odd.mkdir()
    text = f'#PBS -j oe\n#PBS -k doe\n#PBS -r n\n#PBS -o "{odd}/out.log"\n#PBS -l select=2\n'
    job_id = bench.submit(f'{text}echo "$PBS_JOBID" "$PBS_O_WORKDIR"; sort -u "$PBS_NODEFILE"; echo oops >&2')
    seen = bench.reached(job_id, "F")
    lines = (odd / "out.log").read_text().splitlines()
    assert lines[0] == f"{job_id} {bench.folder}" and lines[-1] == "oops", lines
    assert sorted(lines[1:-1]) == sorted(each.split("/")[0] for each in seen["exec_host"].split("+"))
    assert (seen["Join_Path"], seen["Rerunable"]) == ("oe", "False")
    assert seen["Variable_List"]["PBS_O_WORKDIR"] == str(bench.folder)


def check_variables(bench: Bench) -> None:
    """Variables that look like numbers become numbers in JSON; the job has them as they are."""
    job_id = bench.submit('echo "$SEVEN $LARGE" > seen; exit 0', "-v", "SEVEN=007,LARGE=1e5,WORD=x7")
    seen = bench.reached(job_id, "F")
    told = {name: seen["Variable_List"][name] for name in ("SEVEN", "LARGE", "WORD")}
    assert told == {"SEVEN": 7, "LARGE": 100000, "WORD": "x7"}
    assert (bench.folder / "seen").read_text() == "007 1e5\n"
    assert isinstance(seen["Job_Name"], str) and isinstance(seen["Account_Name"], str)


def check_walltime(bench: Bench) -> None:
    """Its end is noticed late; TERM reaches the script, then KILL; what has a session of its own lives on."""
    beats = "setsid sh -c 'for i in $(seq 200); do echo $i > beat; sleep 0.2; done' > /dev/null 2>&1 &"
    text = f"{beats}\ntrap 'echo TERM' TERM; while :; do sleep 0.2; done"
    job_id = bench.submit(text, "-l", f"select=2,walltime={bench.place.walltime_s},place=scatter", "-j", "oe", "-o", "out")
    seen = bench.reached(job_id, "F")
    assert seen["Exit_status"] == -29, seen
    bench.compare("walltime_exceeded", seen)
    said = (bench.folder / "out").read_text()
    late, limit = map(int, re.findall(r"=>> PBS: job killed: walltime (\d+) exceeded limit (\d+)", said)[0])
    assert "TERM" in said and limit == bench.place.walltime_s <= late, said
    beat = (bench.folder / "beat").read_text()
    time.sleep(1.0)
    if (bench.folder / "beat").read_text() == beat:
        raise Left("a session of its own does not outlive the job: cgroups are on")


def check_delete(bench: Bench) -> None:
    """A delete is a request: the job runs on for a while, and its code tells of the signal, whatever its script says."""
    job_id = bench.submit("trap 'sleep 2; exit 0' TERM; touch began; while :; do sleep 0.1; done", "-l", "select=2,place=scatter")
    bench.wait((bench.folder / "began").exists, "the start")
    bench.wait(lambda: bench.job(job_id)["substate"] == 42, "the session")
    assert bench.run("qdel", job_id).code == 0
    assert bench.job(job_id)["job_state"] == "R"
    bench.compare("qdel_running", bench.reached(job_id, "F"))


def check_signal(bench: Bench) -> None:
    """A signal reaches the script."""
    job_id = bench.submit("trap 'exit 7' USR1; trap '' TERM; touch began; while :; do sleep 0.1; done")
    bench.wait((bench.folder / "began").exists, "the start")
    assert bench.run("qsig", "-s", "SIGTERM", "99999999").code == 153
    assert bench.run("pbsnodes", "-a").code == 0
    bench.run("qsig", "-s", "SIGUSR1", job_id)
    assert bench.reached(job_id, "F")["substate"] == 93


def check_server_down(bench: Bench) -> None:
    """Without a server each command has its code; a query still prints JSON, without jobs."""
    if not bench.place.stop:
        raise Left("to stop the server needs rights; give --stop and --start")
    subprocess.run(bench.place.stop, shell=True, check=True)
    try:
        query, submission, delete = bench.run("qstat", "-x", "-f", "-F", "json"), bench.hand_in("true"), bench.run("qdel", "1")
    finally:
        subprocess.run(bench.place.start, shell=True, check=True)
    assert [query.code, submission.code, delete.code] == [255, 162, 162]
    assert "Jobs" not in json.loads(query.out)
    assert submission.out == "" and "errno=15010" in submission.err
    bench.wait(lambda: bench.run("qstat").code == 0, "the server")


CHECKS: dict[str, Callable[[Bench], None]] = {
    name.removeprefix("check_"): each for name, each in sorted(globals().items()) if name.startswith("check_")
}


def carry_out(name: str, place: Place, folder: Path) -> None:
    """Make one check in a folder of its own, and delete its jobs.

    Raises:
        Left: It cannot be made here.
    """
    bench = Bench(place, folder)
    try:
        CHECKS[name](bench)
    finally:
        bench.delete_all()


def main() -> int:
    """Make all checks; 1 if one fails."""
    reader = argparse.ArgumentParser(prog="pbs.conformance", description=__doc__)
    for each in dataclasses.fields(Place):
        kind = Path if each.name == "records" else type(each.default)
        reader.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default)
    place, failed = Place(**vars(reader.parse_args())), 0
    for name in CHECKS:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            try:
                carry_out(name, place, Path(folder))
                print(f"ok      {name}")
            except Left as why:
                print(f"left    {name}: {why}")
            except Exception:
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
