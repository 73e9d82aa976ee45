"""Stage kind `toy`: each link does what `plan` says for it."""

from __future__ import annotations

from pydantic import Field

from workflow.stages.base import Stage, StageSpec


class ToySpec(StageSpec):
    """Keys of a stage of kind `toy`."""

    plan: tuple[str, ...] = Field(("done",), description="What the n-th execution of the stage does; the last one repeats.")
    backbone: str | None = Field(None, description="Unused here; promotion groups by it.")


class Kind(Stage):
    """Done by `tests/toy/agent.py`."""

    Spec = ToySpec
