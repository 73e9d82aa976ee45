"""Campaigns carried through made-up queues and failures: what they cost, that seeds repeat, and the driver's own decisions."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from workflow.campaign import Campaign, stage_kind
from workflow.cli import campaign as command
from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.report.simulated import print_simulation
from workflow.report.timeline import LOST, NODE_DIES, WAITS, WORKS
from workflow.simulation.assumptions import Assumptions
from workflow.simulation.driver import Simulation
from workflow.simulation.history import History
from workflow.simulation.summary import simulate, spent, spread, used
from workflow.site import Limit, site_names
from workflow.stages.base import Pieces

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "campaigns").glob("*.yaml"))
STAGES: dict[str, Any] = {
    "data": {"kind": "convert", "nodes": 2, "walltime": "01:00"},
    "search": {
        "kind": "hpo",
        "needs": ["data"],
        "backbone": "painn",
        "nodes": 402,
        "spares": 2,
        "walltime": "06:00",
        "evaluations": 40,
        "trial": {"nodes": 100, "epochs": 5},
    },
    "best": {"kind": "promote", "needs": ["search"], "top": 2},
    "train": {"kind": "train", "each": "best", "nodes": 1004, "spares": 4, "walltime": "10:00", "links": 3, "epochs": 10},
}
NO_FAILURES = Assumptions(failures_per_day=0.0)
CALM = Assumptions(failures_per_day=0.0, whole_wait_h=0.0, start_s=0.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    return tmp_path


def loaded(folder: Path, stages: dict[str, Any] = STAGES, budget: float | None = None, **site: Any) -> Campaign:
    (folder / "a.xyz").touch()
    fields = {"name": "made", "site": "frontier", "branches": {"a": {"reader": "extxyz", "path": "a.xyz"}}, "stages": stages}
    if budget is not None:
        fields["budget"] = {"node_hours": budget}
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    made = load_campaign(path)
    return replace(made, site=made.site.model_copy(update=site)) if site else made


def run(made: Campaign, assumed: Assumptions, seed: int = 0) -> History:
    return Simulation(made, assumed, str(seed)).run()


def lost(made: Campaign, assumed: Assumptions, runs: int = 12) -> float:
    histories = [run(made, assumed, seed) for seed in range(runs)]
    return sum(spent(each.jobs, "lost") for each in histories) / sum(used(each.jobs) for each in histories)


def ask(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(command, ["simulate", *args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def without_margin(made: Campaign) -> Campaign:
    periods = made.site.periods.model_copy(update={"stop_margin_s": 0.0})
    return replace(made, site=made.site.model_copy(update={"periods": periods}))


@pytest.mark.parametrize("site", site_names())
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_campaign_ends_on_every_site_that_takes_it(file: Path, site: str) -> None:
    made = load_campaign(file, site)
    plan = make_plan(made)
    if plan.refused:
        assert "refused: " in ask(str(file), "--site", site, code=2).output
        return
    calm = run(made, replace(NO_FAILURES, answer_h=0.0))
    assert calm.state == "done"
    assert calm.answers == 0
    assert spent(calm.jobs, "lost") == 0.0
    assert all(work is None or work.is_done for work in calm.works.values())
    assert used(calm.jobs) <= plan.node_hours


def test_each_kind_says_how_its_work_is_divided() -> None:
    made = load_campaign(ROOT / "campaigns" / "sc26.yaml", "frontier")
    found = {name: stage_kind(spec.kind).pieces(spec, made) for name, spec in made.stages.items() if spec.nodes}
    assert found["data"] == Pieces(29, 1)
    assert found["search/mace"] == Pieces(200, 256, True, 300.0, 20, 1 / 200)
    assert found["train"] == Pieces(1, 2048, True, 300.0, 100, 0.5)
    assert found["finetune"] == Pieces(36, 1, True, 300.0, 200)
    assert found["blend"] == Pieces(1, 16, keeps=False)
    assert found["screen"] == Pieces(1, 9300)


def test_without_failures_and_margins_a_full_chain_costs_what_is_planned(home: Path) -> None:
    made = without_margin(loaded(home))
    history = run(made, CALM)
    assert used(history.jobs) == pytest.approx(make_plan(made).node_hours)
    assert history.ended == pytest.approx(make_plan(made).longest_s)
    assert spent(history.jobs, "lost") == 0.0


def test_each_link_ends_its_stop_margin_before_its_walltime(home: Path) -> None:
    made = loaded(home)
    history = run(made, NO_FAILURES)
    planned = {each.key: each.spec.walltime_s - made.site.periods.stop_margin_s for each in made.instances() if each.spec.nodes}
    assert {job.stage: round(job.ended - job.started, 3) for job in history.jobs} == planned
    assert [job.link for job in history.jobs if job.stage == "train/1"] == [1, 2, 3]


def test_half_the_work_takes_half_the_chain_and_the_rest_is_cancelled(home: Path) -> None:
    made = without_margin(loaded(home))
    history = run(made, replace(CALM, work={"train": 1 / 3}))
    assert [job.link for job in history.jobs if job.stage == "train/1"] == [1]
    assert history.state == "done"


@pytest.mark.parametrize("policy", ["ours", "rerun-stage"])
@pytest.mark.parametrize("seed", range(8))
def test_every_node_hour_is_booked_once(home: Path, policy: Any, seed: int) -> None:
    history = run(loaded(home), Assumptions(policy=policy, failures_per_day=15.0), seed)
    assert history.jobs
    for job in history.jobs:
        assert job.spent.useful + job.spent.lost + job.spent.idle == pytest.approx(job.used)
        assert min(job.spent.useful, job.spent.lost, job.spent.idle) >= -1e-6
    for key, work in history.works.items():
        if work is not None:
            stands = work.pieces.nodes * sum(work.kept)
            assert sum(job.spent.useful for job in history.of([key])) == pytest.approx(stands, abs=1e-2)


def test_more_failures_lose_more_and_rerunning_stages_most(home: Path) -> None:
    made = loaded(home)
    ours = [lost(made, Assumptions(failures_per_day=rate)) for rate in (0.0, 2.0, 10.0, 50.0)]
    rerun = [lost(made, Assumptions(policy="rerun-stage", failures_per_day=rate)) for rate in (0.0, 2.0, 10.0)]
    assert ours == sorted(ours)
    assert ours[0] == rerun[0] == 0.0
    assert rerun[1] > 5 * ours[1] and rerun[2] > 5 * ours[2]


def test_rare_checkpoints_lose_more(home: Path) -> None:
    made = loaded(home)
    often, rarely = (lost(made, Assumptions(failures_per_day=10.0, checkpoint_s=every)) for every in (300.0, 3600.0))
    assert rarely > often > 0.0


def test_a_lost_link_is_taken_up_by_the_one_behind_it(home: Path) -> None:
    stages = {"data": STAGES["data"], "train": {**STAGES["train"], "backbone": "painn", "needs": ["data"], "spares": 0}}
    del stages["train"]["each"]
    histories = [run(loaded(home, stages), Assumptions(failures_per_day=4.0, whole_wait_h=1.0), seed) for seed in range(10)]
    broken = [each for each in histories if any(job.how == "lost" and job.link == 1 for job in each.of(["train"]))]
    assert broken
    for history in broken:
        first, second, *_ = history.of(["train"])
        assert (first.how, second.link) == ("lost", 2)
        assert second.started >= first.ended


def test_what_a_chain_cannot_finish_fails_until_a_person_resumes_it(home: Path) -> None:
    made = loaded(home)
    assumed = replace(CALM, work={"train/1": 1.2}, answer_h=6.0)
    history = run(made, assumed)
    assert history.state == "done"
    assert history.answers == 1
    (end,) = [job.ended for job in history.of(["train/1"]) if job.link == 3]
    (again,) = [job for job in history.of(["train/1"]) if job.link == 4]
    assert again.started == pytest.approx(end + 6 * 3600)
    given_up = run(made, replace(assumed, answers=0))
    assert given_up.state == "failed"
    assert given_up.ends["train/1"].message == "it is not done after 3 links"


def test_what_exceeds_the_budget_waits_for_a_person(home: Path) -> None:
    planned = make_plan(loaded(home)).node_hours
    held = run(loaded(home, budget=planned - 20_000.0), replace(NO_FAILURES, answer_h=100.0))
    free = run(loaded(home, budget=planned), replace(NO_FAILURES, answer_h=100.0))
    assert (held.state, free.state, free.answers) == ("done", "done", 0)
    assert held.answers >= 1
    assert held.ended > free.ended + 50 * 3600
    stuck = run(loaded(home, budget=planned - 20_000.0), replace(NO_FAILURES, answers=0))
    assert stuck.state == "unfinished"
    assert used(stuck.jobs) <= planned - 20_000.0


def test_a_limit_on_jobs_is_kept(home: Path) -> None:
    made = loaded(home, limits=(Limit(running=1),))
    history = run(made, CALM)
    ordered = sorted(history.jobs, key=lambda job: job.started)
    assert all(after.started >= before.ended for before, after in zip(ordered, ordered[1:], strict=False))
    few = run(loaded(home, limits=(Limit(submitted=2),)), CALM)
    assert few.state == "done"
    assert len(few.jobs) == len(history.jobs)


def test_jobs_wait_as_told(home: Path) -> None:
    assumed = replace(NO_FAILURES, whole_wait_h=10.0, waits_h={"bin5": 2.0}, wait_spread=1.0)
    waited = {job.stage: (job.started - job.eligible) / 3600 for job in run(loaded(home), assumed).jobs if job.link == 1}
    assert waited["data"] == pytest.approx(2.0)
    assert waited["search"] == pytest.approx(10.0 * (402 / 9856) ** 0.5)


def test_nine_of_ten_waits_are_within_the_spread(home: Path) -> None:
    made = loaded(home)
    waits = [job.started - job.eligible for seed in range(60) for job in run(made, NO_FAILURES, seed).of(["data"])]
    median = NO_FAILURES.median_wait_h(made.site, "bin5", 2) * 3600
    assert spread(waits).median == pytest.approx(median, rel=0.4)
    assert 45 <= sum(wait < 3 * median for wait in waits) <= 59


def test_a_site_may_say_how_long_its_queues_are(home: Path) -> None:
    local = load_campaign(ROOT / "campaigns" / "quickstart.yaml", "local")
    assert NO_FAILURES.median_wait_h(local.site, "local", 2) == 0.0
    assert replace(NO_FAILURES, waits_h={"local": 3.0}).median_wait_h(local.site, "local", 2) == 3.0


def test_failures_scale_with_the_nodes_that_see_them(home: Path) -> None:
    site = loaded(home).site
    assert Assumptions(failures_per_day=5.0).machine_failures_per_day(site) == 5.0
    assert Assumptions(failures_per_day=5.0, of_nodes=site.nodes * 2).machine_failures_per_day(site) == 2.5
    assert Assumptions().machine_failures_per_day(site) == site.nodes / 2000


def test_the_same_seed_gives_the_same_answer_whatever_the_hash_seed() -> None:
    def told(hash_seed: str, seed: str) -> str:
        arguments = ["simulate", str(ROOT / "campaigns" / "sc26.yaml"), "--json", "--runs", "2", "--failures-per-day", "20"]
        done = subprocess.run(
            [sys.executable, "-m", "workflow", *arguments, "--seed", seed],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert told("1", "7") == told("2", "7") != told("1", "8")


def test_a_summary_has_the_spread_of_its_runs(home: Path) -> None:
    summary = simulate(loaded(home), Assumptions(failures_per_day=10.0), 3, 9)
    ends = sorted(history.ended / 3600 for history in summary.histories)
    assert summary.totals["ends_h"].median == ends[4]
    assert summary.totals["ends_h"].low == pytest.approx(ends[0] + 0.8 * (ends[1] - ends[0]))
    assert summary.histories[summary.typical].ended / 3600 == ends[4]
    assert [stage.name for stage in summary.stages] == ["data", "search", "train"]
    assert summary.stages[-1].instances == 2


def test_tenths_lie_between_neighbours() -> None:
    assert (spread([1.0]).low, spread([1.0]).high) == (1.0, 1.0)
    assert spread([3.0, 1.0, 2.0]).median == 2.0
    assert spread([float(k) for k in range(11)]).high == 9.0


@pytest.mark.parametrize("width", [60, 80, 120])
def test_everything_fits_the_terminal(home: Path, width: int) -> None:
    made, assumed = loaded(home), Assumptions(failures_per_day=30.0)
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    print_simulation(simulate(made, assumed, 0, 5), make_plan(made), assumed, console)
    text = console.export_text()
    assert all(len(line.rstrip()) <= width for line in text.splitlines() if not line.startswith("made on"))
    bars = [line for line in text.splitlines() if line.startswith("train/1 ")]
    assert WAITS in bars[0] and WORKS in bars[0]
    assert NODE_DIES in text.partition("\n\nrun ")[2].partition("\n")[2].partition("\n")[2]
    assert "node-hours lost" in text
    assert "guessed" in text
    if width >= 80:
        assert "…" not in text


def test_a_job_that_a_failure_ends_is_marked(home: Path) -> None:
    made, assumed = loaded(home), Assumptions(policy="rerun-stage", failures_per_day=90.0, horizon_days=1.5)
    console = Console(width=100, record=True, file=io.StringIO())
    summary = simulate(made, assumed, 0, 5)
    print_simulation(summary, make_plan(made), assumed, console)
    text = console.export_text()
    assert LOST in text.rpartition("ends it\n")[2]
    assert "had not ended when the simulation gave up" in text
    assert set(summary.states) == {"unfinished"}
    assert all(history.ended <= 1.5 * 86400.0 for history in summary.histories)
    assert any(job.how == "cut" for history in summary.histories for job in history.jobs)


def test_the_command_tells_all_as_json() -> None:
    told = json.loads(ask(str(ROOT / "campaigns" / "sc26.yaml"), "--json", "--runs", "3", "--failures-per-day", "5").output)
    assert told["runs"] == 3
    assert told["states"] == {"done": 3}
    assert told["totals"]["lost"]["median"] > 0
    assert told["assumed"]["failures_per_day"] == 5
    assert {job["stage"] for job in told["typical"]["jobs"]} >= {"data", "train/4", "screen"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--failures-per-day", "nan"], "no number to count with"),
        (["--failures-per-day", "inf"], "no number to count with"),
        (["--failures-per-day", "100000"], "no node would live for 10 days"),
        (["--failures-per-day", "5", "--of-nodes", "2"], "no node would live for 10 days"),
        (["--of-nodes", "3"], "Give --failures-per-day too"),
        (["--queue-wait", "bin7=3"], "no queue 'bin7'"),
        (["--queue-wait", "bin1=-3"], "less than nothing"),
        (["--work", "scren=0.5"], "Did you mean"),
        (["--work", "best=0.5"], "done on the login node"),
        (["--work", "0"], "a stage without work"),
        (["--work", "much"], "'much' is no number"),
        (["--runs", "0"], "--runs"),
        (["--wait-spread", "0.5"], "--wait-spread"),
    ],
)
def test_bad_options_are_told(arguments: list[str], says: str) -> None:
    assert says in ask(str(ROOT / "campaigns" / "sc26.yaml"), *arguments, code=2).output


def test_options_reach_the_simulation() -> None:
    file = str(ROOT / "campaigns" / "sc26.yaml")
    options = ["--queue-wait", "7", "--queue-wait", "bin1=3", "--work", "train=0.5", "--work", "0.9", "--checkpoint-every", "10"]
    more = ["--start-up", "1", "--notice", "2", "--repair", "3", "--answer", "4", "--wait-spread", "2", "--of-nodes", "9000"]
    told = json.loads(ask(file, *options, *more, "--failures-per-day", "2", "--runs", "1", "--json").output)["assumed"]
    assert told["whole_wait_h"] == 7 and told["waits_h"] == {"bin1": 3} and told["work"] == {"train": 0.5, "": 0.9}
    assert (told["checkpoint_s"], told["start_s"], told["notice_s"]) == (600, 60, 120)
    assert (told["repair_h"], told["answer_h"], told["wait_spread"], told["of_nodes"]) == (3, 4, 2, 9000)
