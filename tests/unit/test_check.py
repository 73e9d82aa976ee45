"""Mistakes in a campaign file: each is answered with what, where and remedy, word by word."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from model.feasibility import large_structure_gb
from model.specs import ModelSpec
from workflow import model_check
from workflow.check import check_campaign
from workflow.draft import load_campaign

FRAME = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="F F F"'
GOOD = """\
name: first
site: local
budget: {node_hours: 100}
branches:
  a: {reader: extxyz, path: a.xyz}
sources:
  pool: {reader: extxyz, path: a.xyz}
stages:
  data:
    kind: convert
    walltime: "00:10"
  find:
    kind: hpo
    needs: [data]
    nodes: 2
    backbone: painn
    trial: {nodes: 1, epochs: 2}
  best: {kind: promote, needs: [find], top: 1}
  train:
    kind: train
    each: best
    needs: [data]
    epochs: 4
    walltime: "01:00"
  lead: {kind: promote, needs: [train]}
  pick: {kind: screen, needs: [data, lead], candidates: pool}
"""

MISTAKES = {
    "unknown key": (
        'epochs: 4\n    walltime: "01:00"',
        'epochs: 4\n    waltime: "01:00"',
        "24: stages.train.waltime: no key 'waltime' here",
        "Did you mean 'walltime'? Keys here: attempts, backbone, branches, devices, each, epochs, kind, links, model, needs, "
        "nodes, on, queue, spares, start, suffices, training, variants, walltime.",
    ),
    "unknown backbone": (
        "backbone: painn",
        "backbone: pain",
        "16: stages.find.backbone: no backbone 'pain'",
        "Did you mean 'painn'? Known: {backbones}.",
    ),
    "unknown kind": (
        "kind: screen",
        "kind: scren",
        "26: stages.pick.kind: no stage kind 'scren'",
        "Did you mean 'screen'? Known: {kinds}.",
    ),
    "unknown reader": (
        "a: {reader: extxyz,",
        "a: {reader: extxy,",
        "5: branches.a.reader: no reader 'extxy'",
        "Did you mean 'extxyz'? Known: {readers}.",
    ),
    "unknown need": (
        "needs: [find]",
        "needs: [fnd]",
        "18: stages.best.needs: no stage 'fnd'",
        "Did you mean 'find'? Stages: data, find, best, train, lead, pick.",
    ),
    "circle": (
        "kind: hpo\n    needs: [data]",
        "kind: hpo\n    needs: [data, best]",
        "14: stages.find.needs: stages wait for each other: find needs best needs find",
        "Take one of these needs away.",
    ),
    "each without a selection": (
        "each: best",
        "each: find",
        "21: stages.train.each: 'find' selects no models",
        "Name a stage of kind promote (best, lead).",
    ),
    "missing file": (
        "a: {reader: extxyz, path: a.xyz}",
        "a: {reader: extxyz, path: b.xyz}",
        "5: branches.a.path: no such file: {folder}/b.xyz",
        "Put the data there, or give the right folder under `paths:` in {overlay}.",
    ),
    "unknown path of the site": (
        "a: {reader: extxyz, path: a.xyz}",
        'a: {reader: extxyz, path: "{dta}/a.xyz"}',
        "5: branches.a.path: {dta} is no path of site local; below it lie a",
        "Write `paths: {dta: /…}` into {overlay}. Known: none.",
    ),
    "too many nodes": (
        "    nodes: 2\n",
        "    nodes: 3\n",
        "15: stages.find.nodes: 3 nodes asked, local has 2 [site file of local]",
        "This would fit: on: {local: {nodes: 2, links: 2}}",
    ),
    "too long a job": (
        'walltime: "01:00"',
        'walltime: "90:00"',
        "24: stages.train.walltime: 90:00:00 asked, the longest job of 1 node is 48:00:00 (queue local) [this file]",
        "This would fit: on: {local: {walltime: '48:00:00', links: 2}}",
    ),
    "no time": (
        'walltime: "01:00"',
        "walltime: 60",
        "24: stages.train.walltime: found the number 60 where text is needed",
        "Put it in quotes. walltime: Time of one link, HH:MM or HH:MM:SS.",
    ),
    "out of range": (
        "epochs: 4",
        "epochs: 0",
        "23: stages.train.epochs: found 0; it must be greater than or equal to 1",
        "epochs: Epochs to train in all links together.",
    ),
    "wrong type": (
        "budget: {node_hours: 100}",
        "budget: {node_hours: plenty}",
        "3: budget.node_hours: found 'plenty' where a number is needed",
        "node_hours: Node-hours of all jobs together.",
    ),
    "unknown site": ("site: local", "site: locl", "2: site: no site 'locl'", "Did you mean 'local'? Known: {sites}."),
    "unknown site of on": (
        "    epochs: 4\n",
        "    epochs: 4\n    on: {loca: {nodes: 1}}\n",
        "24: stages.train.on.loca: no site 'loca'",
        "Did you mean 'local'? Known: {sites}.",
    ),
    "written twice": (
        "  lead: {kind: promote, needs: [train]}\n",
        "  lead: {kind: promote, needs: [train]}\n" * 2,
        "26: stages.lead: written twice, first on line 25",
        "Keep one of the two.",
    ),
    "missing key": (
        "candidates: pool}",
        "top: 5}",
        "26: stages.pick.candidates: 'candidates' is missing",
        "Add it. candidates: The source (or branch) of candidate structures.",
    ),
    "option of a reader": (
        "a: {reader: extxyz, path: a.xyz}",
        "a: {reader: extxyz, path: a.xyz, options: {enrgy: E}}",
        "5: branches.a.options.enrgy: no key 'enrgy' here",
        "Did you mean 'energy'? Keys here: charge, energy, energy_unit, forces, id, identity, spin.",
    ),
    "no room for a trial": (
        "trial: {nodes: 1,",
        "trial: {nodes: 5,",
        "17: stages.find.trial.nodes: a trial takes 5 nodes, the job has 2 beside its spares",
        "Give at most 2, or more `nodes`.",
    ),
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-overlay"))
    (tmp_path / "a.xyz").write_text(f"1\n{FRAME}\nH 0 0 0 0 0 0\n")
    path = tmp_path / "campaign.yaml"
    path.write_text(GOOD)
    return path


def test_a_good_file_has_no_problem(file: Path) -> None:
    report = check_campaign(file, models=False)
    assert [str(problem) for problem in report.problems] == []
    assert "data a: 1 file, 0.0 MB, reader extxyz" in report.found
    assert "the models: left out on request" in report.unchecked


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_what_where_and_remedy(file: Path, name: str) -> None:
    right, wrong, what, remedy = MISTAKES[name]
    assert GOOD.count(right) == 1
    file.write_text(GOOD.replace(right, wrong))
    (problem,) = check_campaign(file, models=False).problems
    assert str(problem) == filled(f"{file}:{what}\n  {remedy}", file)


def test_mistakes_are_told_together_in_the_order_of_the_file(file: Path) -> None:
    text = GOOD
    for name in ("unknown key", "unknown backbone", "unknown reader", "wrong type", "too many nodes", "unknown need"):
        text = text.replace(*MISTAKES[name][:2])
    file.write_text(text)
    report = check_campaign(file, models=False)
    assert [str(problem).split(": ")[1] for problem in report.problems] == [
        "budget.node_hours",
        "branches.a.reader",
        "stages.find.nodes",
        "stages.find.backbone",
        "stages.best.needs",
        "stages.train.waltime",
    ]
    assert "what rests on the faults told here; check again when they are mended" in report.unchecked


def test_a_check_says_how_far_it_is(file: Path) -> None:
    file.write_text(GOOD.replace("  best:", "  other: {kind: hpo, needs: [data], backbone: egnn}\n  best:"))
    told: list[str] = []
    check_campaign(file, tell=told.append)
    assert told == ["building models: 2, some seconds", "building models: 1 of 2 done", "building models: 2 of 2 done"]


@pytest.mark.parametrize(
    ("ends", "what"), [("kill -9 $$", "ended with code -9: no word"), ("exec sleep 60", "not built within 2 s")]
)
def test_a_model_that_ends_the_process_that_builds_it_costs_no_other_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch, ends: str, what: str
) -> None:
    """One in three ends it; the process is a script that answers for the others."""
    python = file.parent / "python"
    python.write_text(
        "#!/bin/sh\nshift 3\nfor file; do\n"
        f"  grep -q 'hidden: 32' \"$file\" && {{ {ends}; }}\n"
        '  echo \'{"parameters": 7, "large_structure_gb": 0.1, "large_structure_gflop": 1}\'\ndone\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(model_check, "_TIMEOUT_S", 2)
    monkeypatch.setattr(sys, "executable", str(python))
    other = "  other{0}: {{kind: hpo, needs: [data], backbone: egnn, space: {{hidden: {0}}}}}\n"
    file.write_text(GOOD.replace("  best:", f"{other.format(32)}{other.format(48)}  best:"))
    built = model_check.built_models(load_campaign(file))
    assert {name: facts.get("parameters") for name, facts in built.items()} == {"find": 7, "other32": None, "other48": 7}
    assert what in built["other32"]["what"]


def test_a_backbone_that_is_none_is_told_once(file: Path) -> None:
    file.write_text(GOOD.replace("backbone: painn", "backbone: pain"))
    (problem,) = check_campaign(file).problems
    assert problem.what == "no backbone 'pain'"


def test_what_cannot_be_seen_from_elsewhere_is_said(file: Path) -> None:
    file.write_text(GOOD.replace(*MISTAKES["missing file"][:2]))
    report = check_campaign(file, elsewhere=True, models=False)
    assert not report.problems
    assert "data files: they are on local, not here" in report.unchecked


def test_a_path_that_many_data_sets_lie_below_is_told_once(file: Path) -> None:
    below = "".join(f'  b{number}: {{reader: extxyz, path: "{{data}}/b{number}"}}\n' for number in range(5))
    file.write_text(GOOD.replace("branches:\n", f"branches:\n{below}"))
    (problem,) = check_campaign(file, models=False).problems
    assert problem.what == "{data} is no path of site local; below it lie b0, b1, b2 and 2 more"
    assert not check_campaign(file, elsewhere=True, models=False).problems


def test_an_account_that_is_missing_is_told_before_a_job_needs_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = file.parent / "bin"
    programs.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    report = check_campaign(file, "perlmutter", models=False)
    assert [problem.what for problem in report.problems] == ["no account to charge"]
    overlay = file.parent / "no-overlay" / "campaign" / "sites" / "perlmutter.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("account: m1234\n")
    report = check_campaign(file, "perlmutter", models=False)
    assert not report.problems and "batch scripts: 4 for perlmutter" in report.found
    file.write_text(GOOD.replace("    nodes: 2\n", "    nodes: 2000\n"))
    (problem,) = check_campaign(file, "perlmutter", models=False).problems
    assert problem.what.startswith("2000 nodes asked")


def test_a_launcher_that_is_missing_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(file.parent / "python"))
    (problem,) = check_campaign(file, models=False).problems
    assert problem.what.startswith("no command '")
    assert problem.where == "site local"
    assert "campaign check --elsewhere" in problem.remedy


def test_a_file_that_is_no_yaml_is_told_with_its_line(file: Path) -> None:
    file.write_text("name: first\nstages:\n\tdata: {kind: convert}\n")
    with pytest.raises(Exception, match=r"campaign.yaml:3: not valid YAML: found character '\\t'") as caught:
        check_campaign(file)
    assert caught.value.remedy == "Indent with spaces; YAML allows no tabs."  # type: ignore[attr-defined]


def filled(text: str, file: Path) -> str:
    from model.registry import backbones, readers
    from workflow.campaign import stage_kinds
    from workflow.site import site_names

    known = {"backbones": backbones(), "readers": readers(), "kinds": stage_kinds(), "sites": site_names()}
    for name, names in known.items():
        text = text.replace(f"{{{name}}}", ", ".join(names))
    overlay = file.parent / "no-overlay" / "campaign" / "sites" / "local.yaml"
    return text.replace("{folder}", str(file.parent)).replace("{overlay}", str(overlay))


def test_a_model_that_no_device_holds_is_refused_by_number(file: Path) -> None:
    space = "space: {hidden: 1000, layers: 6, max_ell: 3, node_max_ell: 3, correlation: 3}"
    file.write_text(GOOD.replace("backbone: painn", f"backbone: mace\n    {space}"))
    (problem,) = check_campaign(file).problems
    options = {"name": "mace", "hidden": 1000, "layers": 6, "max_ell": 3, "node_max_ell": 3, "correlation": 3}
    need = 1.2 * large_structure_gb(ModelSpec(backbone=options))
    assert f"one structure of 200 atoms needs about {need:.1f} GB, margin included; a device of local has 4 GB" in str(problem)
    assert "stages.find" in str(problem)
    file.write_text(GOOD.replace("backbone: painn", f"backbone: mace\n    {space.replace('1000', '32').replace('6', '2')}"))
    report = check_campaign(file)
    assert not report.problems
    assert any(line.startswith("model of find:") for line in report.found)


@pytest.mark.parametrize(
    ("space", "seconds"),
    [("hidden: 128, layers: 2, max_ell: 3, node_max_ell: 2", 3.3), ("hidden: 300, layers: 4, max_ell: 3", 13.3)],
)
def test_a_model_that_takes_too_long_is_refused_by_number_and_a_slow_one_warned_of(
    space: str, seconds: float, file: Path
) -> None:
    """By what a step on 200 atoms takes of the site's devices: the same model is well where they are fast."""
    file.write_text(GOOD.replace("backbone: painn", f"backbone: mace\n    space: {{{space}}}"))
    report = check_campaign(file)
    step = f"a training step on one structure of 200 atoms takes about {seconds} s of a device of local ("
    if seconds > 10:
        (problem,) = report.problems
        assert problem.what.startswith(f"the model is too slow to train: {step}") and "GFLOP at 10 GFLOP/s" in problem.what
        assert "stages.find" in problem.where and "node.device_gflop_per_s" in problem.remedy
    else:
        (warning,) = report.warnings
        assert not report.problems and warning.startswith(f"model of find: {step}")
        assert warning.endswith("such structures an hour on each device")
    fast = check_campaign(file, "frontier", elsewhere=True)
    assert not fast.warnings and not any("too slow" in each.what for each in fast.problems)


def test_what_can_be_trained_and_is_less_than_its_user_may_think_is_warned_of(file: Path) -> None:
    assert not check_campaign(file, models=False).warnings
    file.write_text(GOOD.replace("backbone: painn", "backbone: painn\n    model: {readout: graph, max_neighbors: 20}"))
    report = check_campaign(file, models=False)
    graph, cap = report.warnings
    assert not report.problems
    assert graph.startswith("model of find: `readout: graph` is not size-extensive")
    assert cap.startswith("model of find: `max_neighbors: 20` lets energy and forces jump")


def test_nothing_may_wait_for_a_validation_that_there_is_not(file: Path) -> None:
    training = "training: {early_stop: 2, optimizer: {schedule: plateau}}"
    waiting = GOOD.replace("    epochs: 4\n", f"    epochs: 4\n    {training}\n")
    blind = waiting.replace("branches:", "splits: {validation: 0, test: 0}\nbranches:")
    more = "  tune: {kind: finetune, needs: [data, lead], task: pool}\n  pair: {kind: compare, needs: [data], backbone: painn}\n"
    file.write_text(blind.replace("sources:", "  b: {reader: extxyz, path: a.xyz}\nsources:") + more)
    found = {problem.where.rpartition(": ")[2]: problem for problem in check_campaign(file, models=False).problems}
    told = {where: problem.what for where, problem in found.items()}
    assert told["stages.train.training.early_stop"] == "`early_stop` waits for validations, and splits.validation is 0"
    assert told["stages.train.training.optimizer.schedule"].startswith("`optimizer.schedule` waits for validations")
    assert told["stages.find.kind"] == "trials are compared on validation, and splits.validation is 0"
    assert told["stages.tune.task"] == "the epoch of pool is chosen on validation, and splits.validation is 0"
    assert told["stages.pair.kind"] == "ways are compared on the test split, and splits.test is 0"
    assert "share above zero" in found["stages.find.kind"].remedy
    file.write_text(waiting)
    assert not check_campaign(file, models=False).problems


def test_the_number_of_trainings_that_are_compared_is_told(file: Path) -> None:
    more = "  tune: {kind: finetune, needs: [data, lead], task: pool, repeats: 4, learning_rates: [0.1, 0.2]}\n"
    file.write_text(GOOD + more)
    report = check_campaign(file, models=False)
    told = "1 task × 3 strategies × (2 learning rates with the first seed or fold, the best of them with the rest of 4)"
    assert f"trainings of tune: 15: {told}" in report.found


NONSENSE = {
    "branches twice": ("train", "branches: [a, a]", "stages.train.branches", "a branch stands twice"),
    "no branches": ("train", "branches: []", "stages.train.branches", "no branch is named"),
    "width": ("train", "training: {width: 100000}", "stages.train.training.width", "`width: 100000` is more than the 1 rank of"),
    "on as YAML 1.1 has it": ("train", "true: {local: {nodes: 2}}", "stages.train.true", "no key 'true' here"),
    "infinite": (
        "train",
        "training: {checkpoint_every_s: .inf}",
        "stages.train.training.checkpoint_every_s",
        "found inf; it must be a finite",
    ),
    "rates": ("tune", "learning_rates: [.inf]", "stages.tune.learning_rates.0", "found inf; it must be a finite number"),
    "wide trials": ("find", "training: {width: 2}", "stages.find.training.width", "`width: 2` is more than the 1 rank of"),
    "only twice": ("data", "only: [a, pool, a]", "stages.data.only", "a branch or source stands twice"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(file: Path, name: str) -> None:
    stage, line, where, what = NONSENSE[name]
    text = GOOD + "  tune:\n    kind: finetune\n    needs: [data, lead]\n    task: pool\n"
    assert text.count(f"  {stage}:\n") == 1
    file.write_text(text.replace(f"  {stage}:\n", f"  {stage}:\n    {line}\n"))
    (problem,) = check_campaign(file, models=False).problems
    assert ("YAML 1.1" in problem.remedy) == (where == "stages.train.true")
    assert problem.where.endswith(f": {where}") and problem.what.startswith(what) and problem.remedy
