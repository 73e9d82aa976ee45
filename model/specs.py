"""The typed parts that configurations are made of; imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Precision = Literal["fp64", "fp32", "bf16"]


class Strict(BaseModel):
    """A frozen record that refuses keys it does not know, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)  # a rank needs one of many


class Owner(Strict):
    """Files by which a task knows that it still has an owner, and when to stop."""

    heartbeat: Path = Field(description="JSON file whose `count` grows while the agent lives.")
    revoked: Path = Field(description="File that appears when the attempt lost its right to have effect.")
    ttl_s: float = Field(30.0, gt=0, description="Seconds of a standing heartbeat after which a rank ends itself.")


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


class Storage(Strict):
    """How a store keeps its arrays. Whatever is chosen, they are read as float64 and uncompressed."""

    positions: Literal["float64", "float32"] = Field(
        "float64",
        description="float32 halves the largest array but forces, and rounds: by 1e-6 Å at 30 Å. Everything else stays as it is.",
    )
    compression: Literal["none", "deflate"] = Field(
        "none", description="deflate: lossless, in chunks of 1,024 structures. Smaller, and several times slower to read."
    )


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


class BatchBudget(Strict):
    """What a global batch costs at most: it is filled with structure after structure until the next would exceed that."""

    edges: int | None = Field(None, ge=1, description="Directed edges within the cutoff and the cap, over all ranks.")
    atoms: int | None = Field(None, ge=1, description="Atoms, over all ranks.")

    @model_validator(mode="after")
    def _is_one(self) -> BatchBudget:
        if (self.edges is None) == (self.atoms is None):
            raise ValueError("a budget is of `edges` or of `atoms`: give one of them")
        return self

    @property
    def most(self) -> int:
        """Return the edges or atoms."""
        return self.edges or self.atoms or 0


class BranchSpec(Strict):
    """One data set of a training."""

    store: Path = Field(description="Folder of a converted store.")
    weight: float = Field(1.0, ge=0, description="λ_b, weight of the branch in the loss.")
    share: float | None = Field(None, gt=0, le=1, description="p_b, part of all draws; none: by its structures, of what is left.")
    draws: int | None = Field(
        None, ge=1, description="Draws in an epoch, in place of a share: with N of n structures each comes ⌊N/n⌋ or ⌈N/n⌉ times."
    )

    @model_validator(mode="after")
    def _is_drawn_one_way(self) -> BranchSpec:
        if self.share is not None and self.draws is not None:
            raise ValueError("give `share` or `draws`, not both")
        return self
