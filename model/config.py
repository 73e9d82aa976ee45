"""Typed input of every `python -m model` command; imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from model.outcome import CampaignError

Precision = Literal["fp64", "fp32", "bf16"]


class Strict(BaseModel):
    """A frozen record that refuses keys it does not know, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)  # a rank needs one of many


class Owner(Strict):
    """Files by which a task knows that it still has an owner, and when to stop."""

    heartbeat: Path = Field(description="JSON file whose `count` grows while the agent lives.")
    revoked: Path = Field(description="File that appears when the attempt lost its right to have effect.")
    ttl_s: float = Field(30.0, gt=0, description="Seconds of a standing heartbeat after which a rank ends itself.")


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


class Splits(Strict):
    """How structures are divided; by hash of seed and canonical identity, the same for all branches and tasks."""

    seed: int = Field(0, description="Seed of the hash.")
    validation: float = Field(0.1, ge=0, lt=1, description="Share of identities for validation.")
    test: float = Field(0.1, ge=0, lt=1, description="Share of identities for testing.")

    @model_validator(mode="after")
    def _leaves_some(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave nothing to train on")
        return self


class Division(Strict):
    """How one fine-tuning task is divided where it does not go by the campaign's `splits`."""

    by: Literal["row", "identity", "part"] = Field(
        "row",
        description="Folds over rows in their published order, as scikit-learn has them, or over identities; or the parts "
        "(`/train/`, `/val/`, `/test/`) that ids name.",
    )
    folds: int = Field(5, ge=2, description="Folds of a cross-validation; means nothing by part.")
    fold: int = Field(0, ge=0, description="The fold that is tested; of the others, `splits.validation` validates.")
    stratified: bool = Field(False, description="Equal shares of each class in every fold, by row.")
    seed: int = Field(18012019, ge=0, description="Seed of the folds; that of Matbench v0.1 unless told otherwise.")

    @model_validator(mode="after")
    def _has_the_fold(self) -> Division:
        if self.fold >= self.folds:
            raise ValueError(f"there is no fold {self.fold}: they are numbered 0 to {self.folds - 1}")
        if self.stratified and self.by != "row":
            raise ValueError("folds are stratified `by: row` only")
        return self


class ModelSpec(Strict):
    """The model: one shared backbone and one head for each branch."""

    backbone: dict[str, Any] = Field(description="`name` of a backbone and its own options.")
    cutoff: float = Field(5.0, gt=0, description="Cutoff radius in Å.")
    max_neighbors: int | None = Field(None, ge=1, description="Keep the nearest n neighbours only; forces jump then.")
    readout: Literal["atom", "graph"] = Field("atom", description="Sum of atomic energies, or pool first (not size-extensive).")
    forces: Literal["gradient", "head"] = Field("gradient", description="-dE/dx, or a second head.")
    elements: Literal["embedding", "number"] = Field(
        "embedding", description="Learned vector for each element, or Z as a number."
    )
    head_layers: int = Field(2, ge=1, description="Layers of each head.")
    head_hidden: int = Field(64, ge=1, description="Width of each head.")
    head_widths: tuple[PositiveInt, ...] | None = Field(None, description="Widths of a head's hidden layers where they differ.")
    heads: Literal["branch", "shared"] = Field("branch", description="One head for each branch, or one for all.")
    charge_spin: bool = Field(False, description="Condition atoms on total charge and spin multiplicity.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the widths of a head's hidden layers."""
        return (self.head_hidden,) * self.head_layers if self.head_widths is None else self.head_widths


class LossSpec(Strict):
    """Weights of the loss: mean over structures of ΔE/N and mean over components of ΔF; a scalar or class has weight 1."""

    kind: Literal["mae", "mse", "huber"] = Field("mae", description="Form of the penalty; of a class always cross-entropy.")
    energy: float = Field(1.0, ge=0, description="Weight of the energy-per-atom term (eV/atom).")
    forces: float = Field(10.0, ge=0, description="Weight of the force term (eV/Å).")


class OptimizerSpec(Strict):
    """AdamW and its schedule."""

    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    warmup_steps: int = Field(20, ge=0, description="Steps of linear warm-up.")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "cosine", description="Decay after warm-up: none, half a cosine, or a cut whenever validation stops getting better."
    )
    final_fraction: float = Field(
        0.01, gt=0, le=1, description="Least learning rate over its peak: cosine's end, plateau's floor."
    )
    plateau_factor: float = Field(0.5, gt=0, lt=1, description="What a cut multiplies the learning rate by (plateau).")
    plateau_patience: int = Field(
        5, ge=1, description="Validations in a row without a better objective that make a cut (plateau)."
    )
    clip_norm: float | None = Field(10.0, gt=0, description="Largest gradient norm; none switches clipping off.")
    ema: float | None = Field(None, gt=0, lt=1, description="Decay of the averaged weights used for validation; none: off.")


class BranchSpec(Strict):
    """One data set of a training."""

    store: Path = Field(description="Folder of a converted store.")
    weight: float = Field(1.0, ge=0, description="λ_b, weight of the branch in the loss.")
    share: float | None = Field(None, gt=0, description="p_b, share of draws; none: proportional to its structures.")


class TrainConfig(Task):
    """Input of `python -m model train`."""

    model: ModelSpec
    branches: dict[str, BranchSpec] = Field(min_length=1, description="Branches by name.")
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    splits: Splits = Splits()
    batch: int = Field(32, ge=1, description="Structures in a global batch, over all ranks.")
    micro_batch: PositiveInt | Literal["auto"] | None = Field(
        None,
        description="Structures that a rank computes at once; gradients of the batch's pieces add up. "
        "`auto`: as many as `memory_gb` holds by the memory model; none: its whole part.",
    )
    epochs: int = Field(10, ge=1, description="Passes over the (fraction of the) training split.")
    fraction: float = Field(1.0, gt=0, le=1, description="Share of the training split that an epoch draws.")
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


class Storage(Strict):
    """How a store keeps its arrays. Whatever is chosen, they are read as float64 and uncompressed."""

    positions: Literal["float64", "float32"] = Field(
        "float64",
        description="float32 halves the largest array but forces, and rounds: by 1e-6 Å at 30 Å. Everything else stays as it is.",
    )
    compression: Literal["none", "deflate"] = Field(
        "none", description="deflate: lossless, in chunks of 1,024 structures. Smaller, and several times slower to read."
    )


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
        what = first["msg"] if first["loc"] else "not a mapping of keys and values"
        raise CampaignError(what, where, f"The keys of `{command}` stand in model/config.py.") from error


def dump(config: Task, path: Path) -> None:
    """Write a configuration as YAML that `load` reads back."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
