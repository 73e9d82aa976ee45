"""How the agent ends where it cannot write what it has to say."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from workflow.allocation import agent


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_the_storages_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    def fail(_: Path) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(agent, "read_request", fail)
    assert agent.main(["agent", str(tmp_path)]) == agent.EXIT_STORAGE


def test_any_other_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(errno.EACCES, "not ours")

    monkeypatch.setattr(agent, "read_request", fail)
    with pytest.raises(PermissionError):
        agent.main(["agent", str(tmp_path)])
