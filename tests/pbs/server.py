"""The server: rules jobs by the model of a batch system, in real time, and runs their scripts. `python -m pbs.server ROOT`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pbs import intake, listing
from pbs.execution import Run
from pbs.intake import Rejected
from pbs.listing import Record
from pbs.settings import LIMITS, NODES, ROUTE, SERVER, USER, Files
from workflow.batch.scheduler import JobState
from workflow.simulation.job import Job, Refused, Rules, What
from workflow.simulation.model import Model

_LOOK_S = 0.02
_UNKNOWN, _ENDED, _BAD_STATE, _TOO_MANY = 153, 35, 168, 38
Answer = dict[str, Any]


class Fault(Exception):  # noqa: N818 it is an answer, not a fault of ours
    """A command cannot do what it is asked.

    Attributes:
        code: Its exit code.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Server:
    """Everything of one PBS: server, scheduler, and the daemons of its nodes.

    Args:
        files: Where its files are.
    """

    def __init__(self, files: Files) -> None:
        self._files, self._settings = files, files.read_settings()
        start = self._settings
        rules = Rules(LIMITS, notice_s=start.notice_s, kill_wait_s=start.kill_delay_s, history_s=start.history_s)
        self._model = Model(NODES, rules, name_id=lambda number: f"{number}.{SERVER}")
        self._records: dict[str, Record] = {}
        self._ends = False
        self._commands: dict[str, Callable[[dict[str, Any]], str]] = {
            "qsub": self._qsub,
            "qstat": self._qstat,
            "qdel": lambda request: self._each(request, self._delete),
            "qsig": lambda request: self._each(request, self._signal),
            "qhold": lambda request: self._each(request, self._hold),
            "qrls": lambda request: self._each(request, self._release),
            "pbsnodes": self._pbsnodes,
        }

    def run(self) -> None:
        """Serve until told to end; then end all jobs."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_ends", True))
        while not self._ends:
            self._settings = self._files.read_settings()
            self._pass()
            time.sleep(_LOOK_S)
        for record in self._records.values():
            if record.run is not None:
                record.run.destroy()

    def _pass(self) -> None:
        self._advance()
        for path in sorted(self._files.requests.glob("[0-9]*.json")):
            self._reply(path)
        self._advance()
        for job in list(self._model.jobs.values()):
            self._look_at(job, self._records[job.id])

    def _advance(self) -> None:
        for happening in self._model.advance(time.time()):
            record = self._records[happening.job.id]
            record.changed = happening.t
            if happening.what is What.STARTED:
                record.run = self._start(happening.job)
            elif happening.what is What.ASKED_TO_END and record.run is not None:
                self._ask_to_end(happening.job, record.run)
            elif happening.what is What.KILLED and record.run is not None:
                record.run.signal(signal.SIGKILL, everywhere=self._settings.cgroups)

    def _look_at(self, job: Job, record: Record) -> None:
        """See whether a job's script is over, and whether what a job waits for can still come."""
        if job.is_running and record.run is not None:
            self._reap(job, record, record.run)
        elif job.state is JobState.QUEUED and job.ask.queue == ROUTE and not listing.waits_for_another(job, self._model):
            self._route(job, record)
        elif job.is_waiting and job.ask.facts["all_well"] and self._has_failed(job):
            self._bar(job, record)

    def _route(self, job: Job, record: Record) -> None:
        """Move a job to the queue that takes it; one that none takes is gone some time later, without a trace."""
        taker = intake.destination(job.ask.nodes, job.ask.walltime_s) if self._settings.routes else None
        if record.lost_at is None and taker is not None:
            job.ask = replace(job.ask, queue=taker, impossible=bool(job.ask.facts["impossible"]))
        elif record.lost_at is None:
            record.lost_at = self._model.now + self._settings.vanish_s
        elif self._model.now >= record.lost_at:
            self._model.vanish(job)

    def _reap(self, job: Job, record: Record, run: Run) -> None:
        """Note the end of a script; what is left of its session gets its time if it was asked to end, else KILL."""
        code = run.code()
        if code is None:
            return
        if record.obit is None:
            if run.left():
                if job.ending is None:
                    run.signal(signal.SIGKILL)
                return
            record.obit, record.code, record.changed = time.time(), code, time.time()
            run.close()
        if self._model.now - record.obit >= self._settings.ending_s:
            self._model.finish(job, code)

    def _start(self, job: Job) -> Run:
        facts, files = job.ask.facts, self._files
        output, error = Path(facts["output"]), Path(facts["error"])
        home = {"HOME": str(files.home), "USER": USER, "LOGNAME": USER, "SHELL": "/bin/bash"}
        path = f"{files.programs}:/usr/local/bin:/usr/bin:/bin"
        own = {"PBS_JOBID": job.id, "PBS_JOBNAME": job.ask.name, "PBS_QUEUE": job.ask.queue, "PBS_ENVIRONMENT": "PBS_BATCH"}
        own |= {"PBS_CONF_FILE": str(files.conf), "PBS_NODENUM": "0", "PBS_TASKNUM": "1", "NCPUS": str(listing.NCPUS)}
        environment = {**home, "PATH": path, "LANG": "C.UTF-8", **facts["variables"], **own}
        kept = (output, None if facts["join"] == "oe" else error)
        return Run(files, job.id, job.nodes, facts["script"], environment, kept, direct="d" in facts["keep"])

    def _ask_to_end(self, job: Job, run: Run) -> None:
        run.signal(signal.SIGTERM)
        if job.ending is JobState.TIMEOUT:
            spent = int(self._model.now - (job.started or 0))
            run.say(f"=>> PBS: job killed: walltime {spent} exceeded limit {int(job.ask.walltime_s)}")

    def _has_failed(self, job: Job) -> bool:
        others = [self._model.jobs[each] for each in job.ask.after]
        return any(other.state.is_final and other.state is not JobState.COMPLETED for other in others)

    def _bar(self, job: Job, record: Record) -> None:
        record.barred = True
        self._model.cancel(job.id)

    def _reply(self, path: Path) -> None:
        request = json.loads(path.read_text())
        command = request["command"]
        try:
            answer: Answer = {"out": self._commands[command](request), "err": "", "code": 0}
        except (Fault, Rejected) as error:
            out = listing.as_json({}) if command == "qstat" and "F" in request["options"] else ""
            answer = {"out": out, "err": f"{command}: {error}\n", "code": error.code}
        path.unlink()
        if command == self._settings.freezes_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        part = self._files.answers / f".{path.name}"
        part.write_text(json.dumps(answer))
        part.rename(self._files.answers / path.name)

    def _qsub(self, request: dict[str, Any]) -> str:
        ask = intake.job_of(request, self._settings.session_s)
        try:
            job = self._model.submit(ask)
        except Refused as error:
            raise Rejected(_TOO_MANY, "would exceed queue generic's per-user limit") from error
        self._name_files(job)
        self._records[job.id] = Record(int(time.time() * 1e6), self._model.now)
        if any(each not in self._model.jobs for each in ask.after):
            self._bar(job, self._records[job.id])
        self._look_at(job, self._records[job.id])
        return f"{job.id}\n"

    def _name_files(self, job: Job) -> None:
        """Name the files of a job that has no say in it, and put into a folder what names one."""
        number, facts = job.id.partition(".")[0], job.ask.facts
        for kind, letter in (("output", "o"), ("error", "e")):
            facts[kind] = facts[kind] or str(Path(facts["workdir"]) / f"{job.ask.name[:15]}.{letter}{number}")
            if Path(facts[kind]).is_dir():
                facts[kind] = str(Path(facts[kind]) / f"{job.id}.{'OU' if letter == 'o' else 'ER'}")

    def _qstat(self, request: dict[str, Any]) -> str:
        if self._settings.garbage:
            return self._settings.garbage
        options, ids = request["options"], request["ids"][:1]  # this release prints only the first
        jobs = [self._job(each, ended_too="x" in options) for each in ids] if ids else self._model.told()
        shown = [job for job in jobs if "x" in options or not job.state.is_final]
        if "F" not in options:
            return listing.table([(job, listing.letter(job, self._records[job.id], self._model)[0]) for job in shown])
        told = {job.id: listing.describe(job, self._records[job.id], self._model) for job in shown}
        return listing.as_json({}, "Jobs", told, raw=self._settings.raw_variables)

    def _pbsnodes(self, request: dict[str, Any]) -> str:
        found = listing.nodes(self._model)
        if "F" in request["options"]:
            return listing.as_json({}, "nodes", found)
        return "\n".join(f"{name}\n     state = {each['state']}\n     pcpus = {each['pcpus']}\n" for name, each in found.items())

    def _each(self, request: dict[str, Any], act: Callable[[Job, dict[str, str]], None]) -> str:
        for each in request["ids"]:
            act(self._job(each, ended_too="x" in request["options"]), request["options"])
        return ""

    def _job(self, name: str, *, ended_too: bool) -> Job:
        job_id = name if "." in name else f"{name}.{SERVER}"
        job = next((each for each in self._model.told() if each.id == job_id), None)
        if job is None or not re.fullmatch(r"\d+\..+", job_id):
            raise Fault(_UNKNOWN, f"Unknown Job Id {job_id}")
        if job.state.is_final and not ended_too:
            raise Fault(_ENDED, f"{job_id} Job has finished, use -x or -H to obtain historical job information")
        return job

    def _delete(self, job: Job, options: dict[str, str]) -> None:
        if job.state.is_final:  # with -x: its history
            del self._model.jobs[job.id]
            return
        self._model.cancel(job.id)
        self._records[job.id].changed = self._model.now

    def _signal(self, job: Job, options: dict[str, str]) -> None:
        run, name = self._records[job.id].run, options.get("s", "TERM").removeprefix("SIG")
        if run is None or not job.is_running:
            raise Fault(_BAD_STATE, f"Request invalid for state of job {job.id}")
        run.signal(int(name) if name.isdigit() else signal.Signals[f"SIG{name}"])

    def _hold(self, job: Job, options: dict[str, str]) -> None:
        self._model.hold(job)
        job.ask.facts["hold"] = "u"

    def _release(self, job: Job, options: dict[str, str]) -> None:
        job.ask.facts["hold"] = "n"
        self._model.release(job)


def main() -> None:
    files = Files(Path(sys.argv[1]))
    os.umask(0o022)
    Server(files).run()


if __name__ == "__main__":
    main()
