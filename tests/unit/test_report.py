"""The report: one file that stands alone, says everything that is there, and what is not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_campaign import MadeCampaign, half, trials, whole

from workflow.errors import ConfigError
from workflow.report.facts import gather
from workflow.report.graph import draw_graph
from workflow.report.html import _ORDER, write_report
from workflow.report.search_plots import trajectory
from workflow.report.status import StageStatus
from workflow.report.trials import fold_trials
from workflow.templates import write_template

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks nesting and collects what a reader can reach."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.outside: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "src", "xlink:href") and value:
                (self.targets if value.startswith("#") else self.outside).append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    whole(folder)
    return write_report(folder, None).read_text()


def test_the_page_is_whole_and_needs_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert all(target.startswith("data:") for target in page.outside)
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert "<script" not in text
    assert len(text) < 5_000_000


def test_every_anchor_has_one_place(text: str) -> None:
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert {target[1:] for target in page.targets} <= set(page.ids)


def test_every_figure_is_there_named_and_told_in_words(text: str) -> None:
    # graph, node-hours, elements, two searches, Pareto fronts, two trainings with parity, task's parity, scores, times, attempts
    count = 14
    assert text.count("<figure ") == Page(text).tags["figcaption"] == count
    alternatives = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    assert len(alternatives) == count
    assert all(len(told) > 40 for told in alternatives)
    for piece in ("Node-hours used and planned", "Objective against cost", "Predictions beside labels: train/1 on the test split",
                  "Predictions beside labels: tune on scarce, test split", "Scores of screen", "Attempts over time"):  # fmt: skip
        assert piece in text


def test_every_figure_and_result_tells_where_it_comes_from(text: str) -> None:
    page = Page(text)
    assert text.count('<details class="origin">') >= page.tags["figure"] + 8
    for piece in (
        "painn: hidden 48; cutoff 5.0 Å; head 2×64; readout atom; 148,993 parameters",
        "gfn1 50 % of draws (800 structures to train on), gfn2 25 % of draws",
        "branch: emt on rank 2, gfn1 on rank 0, gfn2 on rank 1",
        "fp64",
        "3 of the task",
        "1 of the optimizer",
        "10 % validation, 10 % test, by hash of the identity, seed 4",
        "2 nodes of 1 device, 2 ranks in the largest task",
        "torch 2.13.0",
        "hidden {32, 48}, learning_rate 0.0001 to 0.01, log; held: layers 3",
        "SHA-256 abababababababab…",
    ):
        assert piece in text, piece


SEVEN = {"model", "data mix", "precision", "layout", "nodes", "versions", "seed"}
"""What must be told of each figure that shows a model."""
WITHOUT_A_MODEL = {
    *("Graph of the stages", "Node-hours used and planned by stage", "Elements in the data (data)", "Attempts over time"),
    *("Energies and forces of the branches (data)",),
}


def test_every_figure_that_shows_a_model_tells_seven_things_of_it(tmp_path: Path) -> None:
    whole(tmp_path)
    facts = gather(tmp_path)
    pictures = [block.picture for make in _ORDER for block in make(facts).blocks if block.picture]
    shown = {each.title: dict(each.origin) for each in pictures if each.title not in WITHOUT_A_MODEL}
    assert len(shown) == 10
    for title, origin in shown.items():
        told = {name.partition(" of ")[0] for name, text in origin.items() if text}
        assert told >= SEVEN, f"{title}: {SEVEN - told}"
    pareto = shown["Objective against cost, with each backbone's Pareto front"]
    assert (pareto["precision of painn"], pareto["precision of egnn"]) == ("fp64", "fp32")
    assert "precision" not in pareto and pareto["seed"], "once what both have in common"
    assert "stage of train/2" in shown["Where the time of trainings went"]


def test_tables_have_captions_units_and_the_numbers(text: str) -> None:
    page = Page(text)
    assert page.tags["caption"] == page.tags["table"]
    for piece in (
        "energy MAE (meV/atom)",
        "force MAE (meV/Å)",
        "node_failure: node2 does not answer",
        "cand-0000",
        "cand-0024",
        "Best 25 candidates of screen",
        "gfm-0003",
        "148,993",
    ):
        assert piece in text
    assert "selected" in text
    assert "Errors of tune, on the test split" in text
    assert re.search(r"[0-9.]+ meV/atom \(N = 200\)", text) and re.search(r"[0-9.]+ meV/Å \(N = 5,400\)", text)
    assert "0 of 24 copies" in text
    assert "2,351 of 2,364 structures scored by residual_per_atom, 13 flagged and not ranked" in text


def test_what_a_stage_says_of_itself_is_told(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("painn")
    made.end("painn", "done", result={"trials": trials(3)}, message="the links ran out after 3 of 9 trials")
    made.begin("train/1")
    made.metrics("train/1", "train", 3)
    made.end("train/1", "done", result={}, message="the links ran out at epoch 3 of 9; not tested: no time was left")
    text = write_report(tmp_path, None).read_text()
    assert "The links ran out after 3 of 9 trials." in text
    assert "The links ran out at epoch 3 of 9; not tested: no time was left." in text


def test_a_blend_that_is_worse_than_the_plain_mean_says_so(text: str) -> None:
    assert "worse than the plain mean of the branches on the labels of emt (22.5 against 21 meV/atom)" in text
    assert "still better over all branches (12.83 against 21 meV/atom)" in text


def test_what_is_not_done_is_said(tmp_path: Path) -> None:
    half(tmp_path)
    text = write_report(tmp_path, None).read_text()
    assert text.count("Not done yet.") >= 4
    assert '<span class="tag running">running</span>' in text
    assert Page(text).open == []


def test_a_section_of_a_kind_that_no_stage_has_is_left_out(tmp_path: Path) -> None:
    write_template("pretrain", tmp_path / "pretrain.yaml", force=False)
    write_report(tmp_path / "none", tmp_path / "r.html", tmp_path / "pretrain.yaml")
    text, all_of_it = (tmp_path / "r.html").read_text(), write_report(whole(tmp_path / "gfm").rundir.root, None).read_text()
    for name in ("data", "trainings"):
        assert f'<h2 id="{name}">' in text and f'href="#{name}"' in text
    for name in ("searches", "promotions", "finetunings", "screenings"):
        assert f'<h2 id="{name}">' in all_of_it
        assert f'id="{name}"' not in text and f'href="#{name}"' not in text


def test_what_was_approved_beyond_the_budget_is_told(tmp_path: Path) -> None:
    made = half(tmp_path)
    budget = gather(tmp_path).status.budget
    assert "Approved since" not in write_report(tmp_path, None).read_text()
    made.journal.commit("approved", id="1", stage="painn", node_hours=7.25)
    text = write_report(tmp_path, None).read_text()
    assert f"Budget: {budget:g}. Approved since: up to {budget + 7.25:g}." in text
    assert f"approved, node-hours, beyond a budget of {budget:g}" in text


def test_an_empty_folder_gives_a_page_too(tmp_path: Path) -> None:
    text = write_report(tmp_path, tmp_path / "r.html").read_text()
    assert "not begun" in text
    assert Page(text).open == []


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data")
    made.end("data", "failed", cause="bug", message="<script>alert(1)</script>")
    made.journal.commit("stage", stage="<img src=x onerror=1>", state="failed", cause="bug", message="\"'><b>")
    text = write_report(tmp_path, None).read_text()
    assert "<script>" not in text
    assert "<img" not in text
    assert Page(text).open == []


def test_a_long_search_stays_small() -> None:
    assert len(trajectory("long", trials(10_000))) < 400_000


def test_a_running_searchs_trials_come_from_its_record() -> None:
    rows = fold_trials(
        [
            {"event": "ask", "trials": [{"trial": n, "point": {"hidden": n}} for n in (1, 2, 3, 4)]},
            {"event": "task", "trial": 1, "folder": "x"},
            {
                "event": "end",
                "trial": 1,
                "status": "done",
                "cause": None,
                "message": "",
                "objective": 0.5,
                "epochs": 3,
                "seconds": 4.0,
            },
            {"event": "refused", "trial": 2, "cause": "oom", "message": "needs 9 GB"},
            {"event": "task", "trial": 3, "folder": "y"},
            {"event": "lost", "trial": 3, "folder": "y"},
            {"event": "tell", "trial": 1},
            {"event": "task", "trial": 4, "folder": "z"},
            {"event": "rung", "trial": 4, "epochs": 2, "objective": 0.9, "goes_on": False},
            {"event": "lost", "trial": 4, "folder": "z"},
        ]
    )
    assert [row["status"] for row in rows] == ["done", "failed", "interrupted", "stopped"]
    assert (rows[3]["objective"], rows[3]["epochs"]) == (0.9, 2)
    assert (rows[0]["objective"], rows[0]["seconds"], rows[1]["cause"], rows[2]["interrupted"]) == (0.5, 4.0, "oom", 1)


def test_a_resumed_training_is_drawn_once(tmp_path: Path) -> None:
    whole(tmp_path)
    (stage,) = [stage for stage in gather(tmp_path).stages if stage.key == "train/1"]
    assert [line["epoch"] for line in stage.curves["train"]] == list(range(1, 13))


def test_a_report_without_a_campaign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no campaign has begun there"):
        write_report(tmp_path / "none", None)
    with pytest.raises(ConfigError, match="no such folder"):
        write_report(tmp_path, tmp_path / "none" / "r.html")


def test_the_graph_leaves_out_needs_that_others_imply() -> None:
    chain = [
        StageStatus("a"),
        StageStatus("b", needs=("a",)),
        StageStatus("c", needs=("a", "b")),
        StageStatus("d", needs=("a", "x")),
    ]
    assert draw_graph(chain).count('class="edge"') == 3
    assert draw_graph([]).startswith("<svg")


def test_a_campaign_that_has_not_begun_shows_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_template("quickstart", tmp_path / "quickstart.yaml", force=False)
    text = write_report(tmp_path / "runs" / "quickstart", None, file).read_text()
    assert (tmp_path / "quickstart-report.html").is_file() and not (tmp_path / "runs").exists()
    assert "not begun" in text and "Graph of 9 stages" in text and "0 of 0.1667" in text
    assert Page(text).open == []
