"""Compare ways to train on several data sets: a model for each, one head for all, a head for each on one backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.config import EvaluateConfig, TrainConfig
from model.outcome import Status, write_json
from workflow.stages._comparison import disagreements, error_rows, orders
from workflow.stages._inputs import StoreInput, stage_in, stores
from workflow.stages._recipe import (
    BackboneChoice,
    ModelKeys,
    Problem,
    TrainingKeys,
    branches,
    checkpoint_every_s,
    configuration,
    draws_problems,
    model_fields,
    model_problems,
    small_model,
    splits,
    training_problems,
    validation_problems,
    width_problems,
)
from workflow.stages._tries import Configure, Done, carry_out_rest, remarks, verdict
from workflow.stages._upstream import converted_problems
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec, TaskResult

Way = Literal["apart", "one_head", "two_level"]
Run = tuple[str, tuple[str, ...], int]
"""Way, branches, seed."""


class CompareSpec(StageSpec):
    """Keys of a stage of kind `compare`."""

    backbone: BackboneChoice = Field(description="Backbone by name, or `name` with its options.")
    model: ModelKeys = Field({}, description="Keys of the model beside its backbone: cutoff, head_layers, readout, forces, ….")
    training: TrainingKeys = Field({}, description="Keys of each training: optimizer, loss, batch, precision, seed, ….")
    epochs: int = Field(10, ge=1, description="Epochs of each training: every way sees each structure equally often.")
    ways: tuple[Way, ...] = Field(
        ("apart", "one_head", "two_level"),
        min_length=1,
        description="A model for each branch; one head for all branches; a head for each branch on one backbone.",
    )
    seeds: int = Field(3, ge=2, le=20, description="Seeds of weights and order for each way, counted from the training's `seed`.")


class Kind(Stage):
    """Train every way with every seed, test on the same split, and say which order the seeds and the labels allow."""

    Spec = CompareSpec

    def problems(self, spec: CompareSpec, campaign: Any) -> list[Problem]:
        """Check model, training keys, ways and needs."""
        found = training_problems(spec.training) + converted_problems(spec, campaign) + draws_problems(campaign)
        found += model_problems(model_fields(spec.backbone, spec.model))
        found += validation_problems(spec.training, campaign.header.splits)
        found += width_problems(spec.training, self.pieces(spec, campaign).nodes, campaign.site)
        if not campaign.header.splits.test:
            remedy = "Give `splits: {test: …}` a share above zero."
            found.append(("ways are compared on the test split, and splits.test is 0", "kind", remedy))
        if "heads" in spec.model:
            found.append(("`heads` is what the ways differ in", "model.heads", "Take it out here."))
        if len(set(spec.ways)) < len(spec.ways):
            found.append(("a way stands twice", "ways", "Name each one once."))
        if "two_level" not in spec.ways:
            found.append(("no heads to compare labels by", "ways", "Add `two_level`: its heads tell how far labels disagree."))
        if len(campaign.header.branches) < 2:
            found.append(("one branch alone has nothing to share", "kind", "Give two branches or more."))
        return found

    def models(self, spec: CompareSpec) -> list[dict[str, Any]]:
        """Return the one model that all ways are made of."""
        return [model_fields(spec.backbone, spec.model)]

    def calls(self, spec: CompareSpec, campaign: Any) -> list[tuple[str, str, int]]:
        """Return one of the trainings and its test."""
        nodes = max(1, ((spec.nodes or 1) - spec.spares) // self.pieces(spec, campaign).count)
        return [("each training", "train", nodes), ("each test", "evaluate", nodes)]

    def pieces(self, spec: CompareSpec, campaign: Any) -> Pieces:
        """Return every way with every seed."""
        count = len(_runs(spec, tuple(campaign.header.branches)))
        nodes = max(1, ((spec.nodes or 1) - spec.spares) // count)
        return Pieces(count, nodes, True, checkpoint_every_s(spec.training), spec.epochs)

    def trainings(self, spec: CompareSpec, campaign: Any) -> tuple[int, str]:
        """Return the trainings of all ways and seeds."""
        branches = len(campaign.header.branches)
        ways = [f"{branches} {way}" if way == "apart" else f"1 {way}" for way in spec.ways]
        return self.pieces(spec, campaign).count, f"({' + '.join(ways)}) × {spec.seeds} seeds"

    def miniature(self, spec: CompareSpec) -> dict[str, Any]:
        """Return two epochs of two seeds."""
        return {"epochs": 2, "seeds": 2, "training": {"batch": 16}, "model": small_model(spec.model)}

    def reads(self, spec: CompareSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return all branches."""
        return tuple(campaign.header.branches)

    def work(self, allocation: Allocation) -> StageResult:
        """Train and test every run; what an earlier attempt finished counts."""
        spec, request = CompareSpec.model_validate(allocation.request.spec), allocation.request
        needed = stores(request.inputs, request.branches)
        recipe = _Recipe(allocation, spec, needed, stage_in(allocation, needed.values()))
        runs = _runs(spec, tuple(request.branches))
        trained, results = _carry_out(allocation, spec, runs, "train", recipe.training)
        tested: dict[Run, Done] = {}
        if len(trained) == len(runs) and not allocation.is_stopping():
            tested, tests = _carry_out(allocation, spec, runs, "evaluate", lambda run: recipe.test(run, trained[run]))
            results += tests
        summary = verdict(results, allocation)
        if summary.status is Status.DONE and len(tested) < len(runs):
            summary = StageResult(Status.PARTIAL, message="no time was left for the tests")
        return _result(allocation, spec, replace(summary, message=_remark(summary, trained, tested)), tested)


class _Recipe:
    """How each run is trained and tested."""

    def __init__(self, allocation: Allocation, spec: CompareSpec, needed: Mapping[str, StoreInput], local: Path) -> None:
        self._request, self._spec, self._needed, self._local = allocation.request, spec, needed, local
        self._seed = int(spec.training.get("seed", 0))

    def training(self, run: Run) -> Configure:
        """Return the configuration of a run's training, given what to go on from."""
        way, names, number = run
        model = model_fields(self._spec.backbone, self._spec.model) | {"heads": "shared" if way == "one_head" else "branch"}
        fields = {**self._spec.training, **self._data(names), "model": model, "epochs": self._spec.epochs}
        fields["seed"] = self._seed + number
        return lambda resume: configuration(TrainConfig, self._request, {**fields, "resume": resume})

    def test(self, run: Run, trained: Done) -> Configure:
        """Return the configuration of the test of a run's best epoch; heads of two levels are asked across branches, too."""
        folder, outcome = trained
        checkpoint = folder / (outcome.outputs.get("best") or outcome.outputs["last"])
        precision = self._spec.training.get("precision", TrainConfig.model_fields["precision"].default)
        fields = {**self._data(run[1]), "checkpoint": checkpoint, "precision": precision, "across": run[0] == "two_level"}
        return lambda _: configuration(EvaluateConfig, self._request, fields)

    def _data(self, names: tuple[str, ...]) -> dict[str, Any]:
        needed = {name: self._needed[name] for name in names}
        return {"branches": branches(self._request, needed, self._local), "splits": splits(self._request)}


def _runs(spec: CompareSpec, names: tuple[str, ...]) -> list[Run]:
    """Return all trainings, seed by seed; a model for each branch is one training for each."""
    parts = {way: [(name,) for name in names] if way == "apart" else [names] for way in spec.ways}
    return [(way, part, seed) for seed in range(spec.seeds) for way, each in parts.items() for part in each]


def _name(run: Run, command: str) -> str:
    way, names, seed = run
    return "-".join(filter(None, (command, way, names[0] if way == "apart" else "", str(seed))))


def _carry_out(
    allocation: Allocation, spec: CompareSpec, runs: list[Run], command: str, configure: Callable[[Run], Configure]
) -> tuple[dict[Run, Done], list[TaskResult]]:
    def tell(done: int) -> None:
        allocation.progress(runs={"total": len(runs), "done": done})

    named = {_name(run, command): run for run in runs}
    done, results = carry_out_rest(allocation, command, named, configure, spec.attempts, tell)
    return done, list(results.values())


def _result(allocation: Allocation, spec: CompareSpec, summary: StageResult, tested: Mapping[Run, Done]) -> StageResult:
    if summary.status is not Status.DONE:
        return summary
    facts = {run: outcome.result for run, (_, outcome) in tested.items()}
    names = tuple(allocation.request.branches)
    tests: dict[str, list[dict[str, dict[str, Any]]]]
    tests = {way: [_of_seed(facts, way, seed, names) for seed in range(spec.seeds)] for way in spec.ways}
    across = [facts["two_level", names, seed]["across"] for seed in range(spec.seeds)]
    apart = disagreements(tests["two_level"], across)
    comparison = {"errors": error_rows(tests), "disagreement": apart, "orders": orders(tests, apart), "epochs": spec.epochs}
    table = allocation.folder.run / "comparison.json"
    write_json(table, comparison)
    outputs = allocation.vouch("comparison", table)
    return StageResult(Status.DONE, message=summary.message, outputs=outputs, result={"comparison": comparison})


def _remark(summary: StageResult, trained: Mapping[Run, Done], tested: Mapping[Run, Done]) -> str:
    """Return what the stage has to say, with what its data left open."""
    lasts = sum("best" not in outcome.outputs for _, outcome in trained.values())
    told = [f"{lasts} of {len(trained)} trainings had nothing to validate on: their last epoch was tested"] if lasts else []
    return "; ".join(filter(None, [summary.message, *told, *remarks(tested.values())]))


def _of_seed(facts: Mapping[Run, dict[str, Any]], way: str, seed: int, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the test errors of one way and seed by branch, over all its models."""
    merged: dict[str, dict[str, Any]] = {}
    for run, found in facts.items():
        if (run[0], run[2]) == (way, seed):
            merged |= found["metrics"]
    return {name: merged[name] for name in names}
