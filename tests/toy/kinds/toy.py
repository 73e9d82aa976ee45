"""Stage kind `toy`: each link does what `plan` says for it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pydantic import Field
from toy.deeds import begun

from model.outcome import Cause, Status
from workflow.stages.base import Allocation, Stage, StageResult, StageSpec


class ToySpec(StageSpec):
    """Keys of a stage of kind `toy`."""

    plan: tuple[str, ...] = Field(("done",), description="What the n-th execution of the stage does; the last one repeats.")
    backbone: str | None = Field(None, description="Unused here; promotion groups by it.")


class Kind(Stage):
    """Done by `tests/toy/agent.py` in most tests, and by the real agent where that is meant."""

    Spec = ToySpec

    def work(self, allocation: Allocation) -> StageResult:
        """Do one link's work inside the real agent: the same words as the toy agent's."""
        for word in begun(allocation.campaign, allocation.request).split("+"):
            name, _, value = word.partition(" ")
            if name == "wait":
                while not (allocation.campaign / value).exists():
                    if allocation.is_stopping():
                        return StageResult(Status.PARTIAL)
                    time.sleep(0.05)
            elif name == "sleep":
                time.sleep(float(value))
            elif name == "kill":
                os.kill(os.getpid(), 9)
            else:
                return _result(name, value, allocation)
        raise AssertionError("a plan ends with a result")


def _result(name: str, value: str, allocation: Any) -> StageResult:
    work = Path(allocation.folder.run) / "work.txt"
    work.write_text(f"{allocation.request.token}\n")
    status = Status.FAILED if name == "fail" else Status(name)
    return StageResult(status, Cause(value) if value else None, f"as planned: {value}", allocation.vouch("work", work))
