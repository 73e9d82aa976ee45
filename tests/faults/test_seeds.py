"""Ten thousand made-up histories keep the promises R1 to R11; of the planted bugs none stays hidden in a thousand."""

from __future__ import annotations

import pytest
from seeds import bugs
from seeds.bugs import BUGS
from seeds.running import Summary, run_seeds
from seeds.weather import FAULTS, STORMS
from seeds.world import World

from workflow.batch.protocol import TABLE

SEEDS, IN_A_STORM = 10_000, 400
LEAST = 100
"""Times that each fault must have come to pass, and each row of the table must have decided."""


@pytest.mark.timeout(3000)
def test_ten_thousand_histories_keep_every_promise() -> None:
    total = run_seeds(0, SEEDS)
    for number, storm in enumerate(STORMS, start=1):
        total.add(run_seeds(number * SEEDS, IN_A_STORM, storm=storm))
    assert total.broken == {}
    assert total.seeds == SEEDS + IN_A_STORM * len(STORMS)
    rare = {name: total.faults[name] for name in FAULTS if total.faults[name] < LEAST}
    rare |= {row.name: total.rows[row.name] for row in TABLE if total.rows[row.name] < LEAST}
    assert rare == {}
    assert min(total.points.values()) >= LEAST / 5, total.points


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    promise, plant = BUGS[name]

    def is_found(so_far: Summary) -> bool:
        return any(line.startswith(f"{promise} ") for lines in so_far.broken.values() for line in lines)

    with plant():
        total = run_seeds(0, 1000, storm=bugs.STORMS.get(name, ()), until=is_found)
    assert is_found(total), f"{total.seeds} histories, and none showed that {name}"


def test_a_seed_repeats_its_history(tmp_path_factory: pytest.TempPathFactory) -> None:
    """R7: the same records give the same decisions, to the last line of the journal."""
    base = tmp_path_factory.mktemp("seeds")
    for seed in range(40):
        told = []
        for _ in range(2):
            world = World(seed, base)
            world.run()
            told.append([(t, epoch, {**line, "process": None}) for t, epoch, line in world.truth.events])
        assert told[0] == told[1], seed
