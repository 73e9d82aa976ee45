"""Typed input of every `python -m model` command; imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from model import draws
from model.outcome import CampaignError
from model.specs import (
    BatchBudget,
    BranchSpec,
    Division,
    LossSpec,
    ModelSpec,
    OptimizerSpec,
    Owner,
    Precision,
    Splits,
    Storage,
    Strict,
)

_EVALUATED_AT_ONCE = 32


class Task(Strict):
    """What every command's configuration has."""

    seed: int = Field(0, description="Seed of every pseudo-random choice of this task.")
    precision: Precision = Field("fp32", description="Arithmetic of the model: fp64, fp32 or bf16.")
    threads: int = Field(1, ge=1, description="CPU threads of each rank.")
    owner: Owner | None = Field(None, description="Who may end this task; none when run by hand.")
    stop: Path | None = Field(None, description="File whose appearance asks for a checkpoint and an orderly end.")
    node_variable: str = Field("", description="Environment variable that names a rank's node; empty: the host name.")
    backend: Literal["gloo", "nccl", "xccl"] = Field(
        "gloo", description="torch.distributed backend, and with it the device: gloo (CPU), nccl (also RCCL) or xccl."
    )
    address_suffix: str = Field("", description="Added to rank 0's host name for its address on the fast network.")
    progress_every_s: float = Field(2.0, gt=0, description="Seconds between two lines of `progress.json`.")


class TrainConfig(Task):
    """Input of `python -m model train`."""

    model: ModelSpec
    branches: dict[str, BranchSpec] = Field(min_length=1, description="Branches by name.")
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    splits: Splits = Splits()
    batch: PositiveInt | BatchBudget = Field(
        32, description="Structures in a global batch, over all ranks; or what it costs: `{edges: n}` or `{atoms: n}`."
    )
    micro_batch: PositiveInt | Literal["auto"] | None = Field(
        None,
        description="Structures that a rank computes at once; gradients of the batch's pieces add up. "
        "`auto`: as many as `memory_gb` holds by the memory model; none: its whole part.",
    )
    epochs: int = Field(10, ge=1, description="Passes over the (fraction of the) training split.")
    fraction: float = Field(
        1.0, gt=0, le=1, description="Share of its structures that an epoch draws, branches with `draws` aside."
    )
    temperature: float = Field(1.0, gt=0, description="Branches without a share are drawn by size ** (1 / temperature).")
    layout: Literal["data", "branch"] = Field("data", description="Every rank holds all branches, or its own only.")
    shard: bool = Field(False, description="Divide the backbone's weights, moments and averages over the ranks (FSDP2).")
    checkpoint_every_s: float = Field(300.0, gt=0, description="Seconds between checkpoints within an epoch.")
    validate_every: int = Field(1, ge=1, description="Epochs between validations.")
    early_stop: int | None = Field(None, ge=1, description="Validations without a better objective after which training is done.")
    resume: Path | None = Field(None, description="Checkpoint folder to go on from, exactly; epochs seen count.")
    init: Path | None = Field(None, description="Checkpoint folder whose weights to start from, counters at zero.")
    memory_gb: float | None = Field(None, gt=0, description="Memory of one device in GB; more needed ends with cause oom.")
    width: int | None = Field(None, ge=1, description="Ranks that hold a copy of a branch together; none: all of it.")
    node_memory_gb: float | None = Field(None, gt=0, description="Memory of a node in GB, for its data; none: found out.")

    @field_validator("batch", mode="before")
    @classmethod
    def _is_told(cls, value: Any) -> Any:
        if value == "auto":
            raise ValueError(
                "a global batch decides what is learned, so it is told: give a number and `micro_batch: auto`, by which a rank "
                "computes its part in pieces that fit into `memory_gb`, and their gradients add up to those of the batch"
            )
        return value

    @model_validator(mode="after")
    def _leaves_draws_to_all(self) -> TrainConfig:
        if wrong := draws.fault(spec.share for spec in self.branches.values() if spec.draws is None):
            raise ValueError(wrong)
        return self

    def evaluated_at_once(self, ranks: int) -> int:
        """Return how many structures a rank evaluates together: no more than it trains on at once, for which it has memory."""
        part = _EVALUATED_AT_ONCE if isinstance(self.batch, BatchBudget) else -(-self.batch // ranks)
        return min(part, self.micro_batch) if isinstance(self.micro_batch, int) else part


class FinetuneConfig(TrainConfig):
    """Input of `python -m model finetune`: one task, one strategy."""

    strategy: Literal["scratch", "frozen", "unfrozen"] = Field("unfrozen", description="Random weights; heads only; everything.")
    checkpoint: Path | None = Field(None, description="Trained model to start from; none only for scratch.")
    division: Division | None = Field(None, description="How the task is divided; none: by `splits`.")


class EvaluateConfig(Task):
    """Input of `python -m model evaluate`: errors of a checkpoint beside baselines."""

    checkpoint: Path = Field(description="Checkpoint folder.")
    branches: dict[str, BranchSpec] = Field(min_length=1, description="Stores by branch; weights and shares mean nothing here.")
    splits: Splits = Splits()
    split: Literal["train", "validation", "test"] = "test"
    batch: int = Field(32, ge=1, description="Structures in a batch.")
    untrained: bool = Field(False, description="Keep the architecture, draw fresh random weights: the control.")
    across: bool = Field(False, description="Also ask every other branch's head about each branch's labels.")


class BlendConfig(Task):
    """Input of `python -m model blend`: branch weights from composition by a small MLP."""

    checkpoint: Path = Field(description="Trained multi-branch checkpoint; stays frozen.")
    branches: dict[str, BranchSpec] = Field(min_length=1, description="Stores by branch, with weights; shares mean nothing here.")
    splits: Splits = Splits()
    hidden: tuple[PositiveInt, ...] = Field((128, 64, 16), description="Widths of the MLP.")
    epochs: int = Field(50, ge=1, description="Passes over the training split.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of AdamW.")
    batch: int = Field(64, ge=1, description="Structures in a batch.")


class ScreenConfig(Task):
    """Input of `python -m model screen`: energies, forces and a ranking of candidates."""

    checkpoint: Path
    blend: Path | None = Field(None, description="Folder that `blend` wrote; none: mean over the allowed branches.")
    candidates: Path = Field(description="Store of candidate structures.")
    score: Literal["residual_per_atom", "largest_force", "branch_spread"] = Field(
        "residual_per_atom", description="Quantity to rank by; low first (branch_spread: high first)."
    )
    top: int = Field(100, ge=1, description="Candidates to keep in the ranking.")
    batch: int = Field(64, ge=1, description="Structures in a batch.")
    resume: Path | None = Field(None, description="Folder of an earlier, interrupted run whose finished shards count.")


class ConvertConfig(Task):
    """Input of `python -m model convert`: one branch from published containers to a store."""

    name: str = Field(description="Name of the branch.")
    reader: dict[str, Any] = Field(description="`name` of a reader and its own options.")
    sources: tuple[Path, ...] = Field(description="Files or folders to read.")
    store: Path = Field(description="Folder to write.")
    shard: int = Field(100_000, ge=1, description="Structures in one shard.")
    storage: Storage = Field(Storage(), description="How the store keeps its arrays: type of positions, compression.")
    limit: int | None = Field(None, ge=1, description="Stop after so many structures; for trials.")
    splits: Splits = Splits()


class LeakageConfig(Task):
    """Input of `python -m model leakage`: how much of a task stands in the training splits of branches."""

    task: Path = Field(description="Store of the task.")
    against: dict[str, Path] = Field(description="Stores of branches, by name.")
    splits: Splits = Splits()
    division: Division | None = Field(
        None,
        description="How the task is divided; of a cross-validation every fold is counted; none: by `splits`, as branches are.",
    )


class ProbeConfig(Task):
    """Input of `python -m model probe`: what ranks see of their nodes, for `campaign sites test`."""

    exercise: Literal["report", "exit", "killed", "wait"] = Field(
        "report", description="Tell what is seen; let a rank exit with 3, or be killed; or work until asked to stop."
    )
    local: Path | None = Field(None, description="Node-local folder to write to and read back.")


COMMANDS: dict[str, type[Task]] = {
    "train": TrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "blend": BlendConfig,
    "screen": ScreenConfig,
    "convert": ConvertConfig,
    "leakage": LeakageConfig,
    "probe": ProbeConfig,
}


def load(command: str, path: Path) -> Task:
    """Read and check the configuration file of one command.

    `{node}` in it becomes the name of this rank's node where `node_variable` gives one: the virtual nodes of one
    machine have node-local folders of different names.

    Raises:
        CampaignError: The file is missing, is no YAML, or breaks the command's types.
    """
    try:
        fields = yaml.safe_load(path.read_text())
        variable = fields.get("node_variable") if isinstance(fields, dict) else None
        node = os.environ.get(variable, "") if isinstance(variable, str) else ""
        if node:
            fields = yaml.safe_load(path.read_text().replace("{node}", node))
        return COMMANDS[command].model_validate(fields)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CampaignError("no such file", str(path), "Give the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CampaignError(f"not valid YAML ({error})", str(path), "Mend the file.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ": ".join([str(path), *filter(None, [".".join(str(part) for part in first["loc"])])])
        what = "not a mapping of keys and values" if first["type"] == "model_type" else first["msg"]
        remedy = f"The keys of `{command}` stand in model/config.py, those of its parts in model/specs.py."
        raise CampaignError(what, where, remedy) from error


def dump(config: Task, path: Path) -> None:
    """Write a configuration as YAML that `load` reads back."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
