"""An allocation that has nothing to do, or no nodes to do it on, ends at once and says why (R4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from allocation_world import World

from model.outcome import Cause, Status
from workflow.rundir import AttemptDir

DYING = """#!/bin/sh
# A machine of two nodes, the second of which dies under the first task and never answers again.
for word; do case $word in --nodelist=*) hosts=${{word#*=}};; esac; done
while [ "${{1%/python*}}" = "$1" ] && [ "$1" != true ]; do shift; done
[ "$1" = true ] || touch {dead}
[ -e {dead} ] && grep -q node2 "$hosts" && exit 1
exec "$@"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def _launcher(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a launcher on PATH, and a controller that answers: it is not to blame for what fails."""
    folder = world.campaign / "bin"
    folder.mkdir()
    for name, script in {"srun": text, "scontrol": "#!/bin/sh\nexit 0\n"}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def _on(world: World, kind: str, launcher: str) -> AttemptDir:
    attempt = world.attempt(kind)
    fields = json.loads(attempt.request.read_text())
    fields["site"]["launcher"] = launcher
    attempt.request.write_text(json.dumps(fields))
    return attempt


def test_a_search_whose_trials_fit_on_no_nodes_any_more_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _launcher(world, monkeypatch, DYING.format(dead=world.campaign / "dead"))
    attempt = _on(world, "search", "srun")
    receipt = world.run(attempt)
    assert receipt.result["trials"] == [
        {"status": "interrupted", "cause": Cause.NODE_FAILURE, "message": "fewer healthy nodes are left than it needs"}
    ], "no point is asked for that nothing can try"
    assert sorted(path.name for path in attempt.tasks.iterdir()) == ["trial-1", "trial-1-2"]
    assert receipt.evidence == {"quarantined": ["node2"]}


def test_an_allocation_without_a_node_that_answers_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _launcher(world, monkeypatch, "#!/bin/sh\nexit 1\n")
    attempt = _on(world, "search", "srun")
    receipt = world.run(attempt)
    assert (receipt.status, receipt.cause) == (Status.FAILED, Cause.NODE_FAILURE)
    assert receipt.message == "no node of the allocation answers" and not attempt.tasks.exists()
