"""Stage kind `choose`: a login stage that sums up its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from model.outcome import Cause, Status
from workflow.receipt import Receipt
from workflow.stages.base import Stage, StageResult, StageSpec


class ChooseSpec(StageSpec):
    """Keys of a stage of kind `choose`."""

    top: int = Field(1, description="Instances of stages that run for each.")
    fault: str = Field("", description="How to fail.")


class Kind(Stage):
    """Read receipts only."""

    Spec = ChooseSpec
    on_login = True

    def decide(self, spec: Any, key: str, inputs: dict[str, Receipt], campaign: Path) -> StageResult:
        """Tell which inputs there are."""
        if spec.fault == "raise":
            raise ZeroDivisionError("planted")
        if spec.fault:
            return StageResult(Status.FAILED, Cause.BAD_CONFIG, spec.fault)
        return StageResult(Status.DONE, result={"inputs": sorted(inputs)})
