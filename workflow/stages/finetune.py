"""Fine-tune a trained model on tasks, each in several ways, packed into one allocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.config import FinetuneConfig
from model.outcome import Cause, Outcome, Status, write_json
from workflow.errors import CampaignError
from workflow.finetuning import task_names
from workflow.stages._finetunings import Comparison, Run, best_rates
from workflow.stages._inputs import Model, stage_in, stores, upstream
from workflow.stages._leakage import leakage
from workflow.stages._recipe import (
    INHERITED,
    OWN_KEYS,
    Problem,
    branches,
    checkpoint_every_s,
    config_problems,
    configuration,
    splits,
    width_problems,
)
from workflow.stages._tries import Configure, Done, carry_out_rest, verdict
from workflow.stages._upstream import converted_problems, model_stage_problems
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, TaskResult

_MANY_CELLS = 24
"""Tasks times ways above which a miniature leaves ways out."""


class FinetuneSpec(Comparison):
    """Keys of a stage of kind `finetune`."""


class Kind(Stage):
    """Give each training an equal share of the nodes and compare them in tables."""

    Spec = FinetuneSpec

    def problems(self, spec: FinetuneSpec, campaign: Any) -> list[Problem]:
        """Check the tasks' names, the training keys and where the model comes from."""
        found = [(what, key or "task", remedy) for what, key, remedy in converted_problems(spec, campaign, *spec.tasks)]
        for key, one in {"strategies": "strategy", "precisions": "precision", "learning_rates": "learning rate"}.items():
            if len(set(getattr(spec, key))) < len(getattr(spec, key)):
                found.append((f"a {one} stands twice", key, "Name each one once."))
        if not spec.tasks or len(set(spec.tasks)) < len(spec.tasks):
            found.append(("no task is named, or one twice", "task", "Name each task once."))
        stand_ins: dict[str, Any] = {"model": {"backbone": {}}, "branches": {}}
        found += config_problems(FinetuneConfig, spec.training, "training", stand_ins, OWN_KEYS)
        found += _split_problems(spec, campaign)
        found += _task_problems(spec, campaign) + model_stage_problems(spec, campaign)
        return found if found else width_problems(spec.training, _nodes(spec), campaign.site)

    def calls(self, spec: FinetuneSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return one of the runs."""
        return [("each run", "finetune", _nodes(spec))]

    def pieces(self, spec: FinetuneSpec, campaign: Any) -> Pieces:  # noqa: ARG002
        """Return every training."""
        epochs = max(spec.epochs_of(task) for task in spec.tasks)
        return Pieces(spec.num_runs, _nodes(spec), True, checkpoint_every_s(spec.training), epochs)

    def trainings(self, spec: FinetuneSpec, campaign: Any) -> tuple[int, str]:  # noqa: ARG002
        """Return the fine-tunings; none where a task is not known, which is among the problems."""
        try:
            return spec.num_runs, spec.product
        except CampaignError:
            return 0, ""

    def miniature(self, spec: FinetuneSpec) -> dict[str, Any]:
        """Return two epochs of each run, two learning rates and two repeats; of a comparison of many tasks, two ways.

        Every task then still runs, and every step between them: rates chosen, repeats, differences. What a way to train or
        a precision does is the same for all tasks.
        """
        few: dict[str, Any] = {"learning_rates": list(spec.learning_rates[:2])} if spec.learning_rates else {}
        few |= {"repeats": 2} if max(map(spec.repeats_of, spec.tasks)) > 1 else {}
        if len(spec.cells) > _MANY_CELLS:
            few["strategies"] = list(spec.strategies[-2:])
            few |= {"precisions": list(spec.precisions[:1])} if spec.precisions else {}
        return {"epochs": 2, "training": {"batch": 8}, **few}

    def reads(self, spec: FinetuneSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return the tasks."""
        return spec.tasks

    def work(self, allocation: Allocation) -> StageResult:
        """Train everything to its end, first what learning rates are chosen by; what an earlier attempt finished counts."""
        spec, request = FinetuneSpec.model_validate(allocation.request.spec), allocation.request
        model = upstream(spec, request)
        if model is None:
            return StageResult(Status.DONE, message=f"nothing to fine-tune: fewer than {request.instance} models were selected")
        found = leakage(allocation, {task: spec.division_of(task) for task in spec.tasks}, spec.attempts)
        trainings = _Trainings(allocation, spec, model)
        first = spec.first_runs()
        trainings.carry_out(first)
        objectives = {run: trainings.objective(run) for run in first}
        chosen = best_rates(objectives.items()) if spec.learning_rates else {}
        if trainings.all_ended(first):
            trainings.carry_out(spec.later_runs({cell: run.rate for cell, run in chosen.items() if run.rate is not None}))
        shown = [run for run in trainings.asked if not spec.learning_rates or run.repeat or chosen.get(run.cell, run) == run]
        order = {cell: place for place, cell in enumerate(spec.cells)}
        rates = (
            [_rate(trainings, run, objective, chosen.get(run.cell)) for run, objective in objectives.items()]
            if spec.learning_rates
            else []
        )
        return _result(trainings, sorted(shown, key=lambda run: (order[run.cell], run.repeat)), rates, found)


def _split_problems(spec: FinetuneSpec, campaign: Any) -> list[Problem]:
    """Say which tasks have no data to choose an epoch by; one that was published in parts has its own."""
    if campaign.header.splits.validation:
        return []
    known = [task for task in spec.tasks if not isinstance(spec.task, dict) or spec.task[task] in task_names()]
    divisions = {task: spec.division_of(task) for task in known}
    without = [task for task, division in divisions.items() if division is None or division.by != "part"]
    what = f"the epoch of {', '.join(without)} is chosen on validation, and splits.validation is 0"
    return [(what, "task", "Give `splits: {validation: …}` a share above zero.")] if without else []


def _task_problems(spec: FinetuneSpec, campaign: Any) -> list[Problem]:
    """Say where a source is not what the task that it is named for takes."""
    found: list[Problem] = []
    known = {**campaign.header.branches, **campaign.header.sources}
    for name in spec.tasks if isinstance(spec.task, dict) else ():
        try:
            task = spec.protocol(name)
        except CampaignError as error:
            found.append((error.what, f"task.{name}", error.remedy))
            continue
        if task is None or name not in known:
            continue
        source = known[name]
        wanted = {"reader": task.reader, "options": task.options, "limit": task.structures}
        given = {"reader": source.reader, "options": {k: source.options.get(k) for k in task.options}}
        given["limit"] = source.limit or task.structures
        different = [key for key in wanted if wanted[key] != given[key]]
        if different:
            what = f"'{task.title}' takes another source: {', '.join(f'{key} {wanted[key]}' for key in different)}"
            found.append(
                (what, f"task.{name}", "Mend the source, or name the source alone and give `training` and `epochs` here.")
            )
    return found


def _nodes(spec: FinetuneSpec) -> int:
    return max(1, ((spec.nodes or 1) - spec.spares) // spec.num_runs)


class _Trainings:
    """The trainings of a stage in one allocation, and what has come of them.

    Attributes:
        asked: Those that were asked for so far, in order.
        done: Folder and outcome of those that were done.
        results: How those ended that this attempt has started.
    """

    def __init__(self, allocation: Allocation, spec: FinetuneSpec, model: Model) -> None:
        self.allocation, self.spec = allocation, spec
        self.asked: list[Run] = []
        self.done: dict[Run, Done] = {}
        self.results: dict[str, TaskResult] = {}
        self._configure: Callable[[Run], Configure] | None = None
        self._model = model

    def carry_out(self, runs: Sequence[Run]) -> None:
        """Train these to their ends, side by side."""
        self.asked += runs
        before, named = len(self.done), {run.name: run for run in runs}

        def tell(done: int) -> None:
            self.allocation.progress(runs={"total": self.spec.num_runs, "done": before + done})

        done, results = carry_out_rest(self.allocation, "finetune", named, self._configured, self.spec.attempts, tell)
        self.done |= done
        self.results |= results

    def _configured(self, run: Run) -> Configure:
        """Return how a run is configured; the first time, data and model come to the nodes."""
        self._configure = self._configure or _configurations(self.allocation, self.spec, self._model)
        return self._configure(run)

    def objective(self, run: Run) -> float | None:
        """Return a run's objective on validation; None where it was not done."""
        objective: float | None = self.done[run][1].result.get("objective") if run in self.done else None
        return objective

    def failed(self, run: Run) -> TaskResult | None:
        """Return how a run ended that failed by its own fault."""
        result = self.results.get(run.name)
        return result if result is not None and result.cause in (Cause.OOM, Cause.DIVERGED) else None

    def all_ended(self, runs: Sequence[Run]) -> bool:
        """Say whether each one was done, or failed by its own fault."""
        return all(run in self.done or self.failed(run) for run in runs)


def _configurations(allocation: Allocation, spec: FinetuneSpec, model: Model) -> Callable[[Run], Configure]:
    request = allocation.request
    needed = stores(request.inputs, spec.tasks)
    local = stage_in(allocation, [*needed.values(), model])
    taken_over = {key: model.training[key] for key in INHERITED if key in model.training}
    fields = {"model": model.spec, "splits": splits(request)}

    def make(run: Run) -> Configure:
        task, strategy = run.cell.task, run.cell.strategy
        own = {**fields, **spec.keys_of(run, taken_over), "epochs": spec.epochs_of(task), "strategy": strategy}
        own["branches"] = branches(request, {task: needed[task]}, local)
        own["checkpoint"] = None if strategy == "scratch" else local / model.folder
        return lambda resume: configuration(FinetuneConfig, request, {**own, "resume": resume})

    return make


def _rate(trainings: _Trainings, run: Run, objective: float | None, chosen: Run | None) -> dict[str, Any]:
    """Return what a learning rate came to on validation, on how much, and whether it is the one that its cell goes on with."""
    metrics = trainings.done[run][1].result.get("validation", {}) if run in trainings.done else {}
    counted = metrics.get(run.cell.task, {}).get("num_structures")
    facts = {"learning_rate": run.rate, "objective": objective, "num_structures": counted, "chosen": run == chosen}
    return {**vars(run.cell), **facts}


def _result(
    trainings: _Trainings, shown: Sequence[Run], rates: Sequence[dict[str, Any]], found: Mapping[str, Any]
) -> StageResult:
    allocation, spec, done = trainings.allocation, trainings.spec, trainings.done
    own_faults = {run.name for run in trainings.asked if trainings.failed(run)}
    summary = verdict([r for name, r in trainings.results.items() if name not in own_faults or not done], allocation)
    rows = [_row(run, done[run][1].result) for run in shown if run in done]
    rows += [_failed(run, fault) for run in shown if (fault := trainings.failed(run)) is not None]
    outputs = [each for run in shown if run in done for each in _checkpoint(allocation, run, *done[run])]
    result: dict[str, Any] = {"tasks": list(spec.tasks), "table": rows, "protocols": _protocols(spec), **found}
    if rates:
        result["rates"] = list(rates)
    if summary.status is Status.DONE:
        table = allocation.folder.run / "table.json"
        write_json(table, rows)
        outputs += allocation.vouch("table", table)
    message = "; ".join([*filter(None, [summary.message]), *_untested(rows)])
    return StageResult(summary.status, summary.cause, message, tuple(outputs), result, summary.evidence)


def _untested(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say which tasks had no structure to be tested on."""
    empty = dict.fromkeys(row["task"] for row in rows if row.get("split") == "test" and row.get("num_structures") == 0)
    return [f"no structure of {', '.join(empty)} to test on"] if empty else []


def _protocols(spec: FinetuneSpec) -> dict[str, Any]:
    """Return what each task's own file says of its tables."""
    keys = {"title", "group", "targets", "metrics"}
    known = {task: spec.protocol(task) for task in spec.tasks}
    return {
        task: {**each.model_dump(mode="json", include=keys), "folds": each.num_folds}
        for task, each in known.items()
        if each is not None
    }


def _identity(run: Run) -> dict[str, Any]:
    varied: dict[str, Any] = {"precision": run.cell.precision or None, "learning_rate": run.rate}
    return {"task": run.cell.task, "strategy": run.cell.strategy, **{k: v for k, v in varied.items() if v is not None}}


def _row(run: Run, facts: dict[str, Any]) -> dict[str, Any]:
    metrics = facts.get("test", facts.get("metrics", {})).get(run.cell.task, {})
    return {
        **_identity(run),
        "repeat": run.repeat,
        "kind": "energy",
        "objective": facts.get("objective"),
        "epochs": facts.get("epochs"),
        "seconds_to_best": facts.get("seconds_to_best"),
        "split": "test" if "test" in facts else "validation",
        "parameters": facts.get("parameters"),
        "checkpoints": facts.get("checkpoints"),
        "shared": facts.get("shared"),
        **metrics,
    }


def _failed(run: Run, result: TaskResult) -> dict[str, Any]:
    return {**_identity(run), "repeat": run.repeat, "failed": result.cause, "message": result.message}


def _checkpoint(allocation: Allocation, run: Run, folder: Path, outcome: Outcome) -> tuple[Any, ...]:
    """Vouch for a run's best checkpoint and, of the first repeat, for its sample of predictions beside labels."""
    outputs, role = outcome.outputs, f"{run.cell.task}:{run.cell.name}"
    best, parity = outputs.get("best") or outputs.get("last"), outputs.get("parity")
    place = f"{role}:{run.repeat}" if run.repeat else role
    checkpoint = allocation.vouch(f"checkpoint:{place}", folder / best) if best else ()
    return (*checkpoint, *(allocation.vouch(f"parity:{role}", folder / parity) if parity and run.repeat == 0 else ()))
