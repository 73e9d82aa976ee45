"""Errors that a user reads: what, where, remedy."""

import re

from model.outcome import CampaignError, is_of_storage

__all__ = [
    "CampaignError",
    "ConfigError",
    "JournalError",
    "LeaseHeld",
    "SchedulerError",
    "SiteError",
    "StageError",
    "is_of_storage",
    "plain",
]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: object, most: int | None = 200) -> str:
    """Return what somebody else wrote as it may stand on a terminal: control characters escaped, cut where it is long."""
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))
    return escaped if most is None or len(escaped) <= most else f"{escaped[: most - 1]}…"


class ConfigError(CampaignError):
    """The campaign file asks for something that cannot be."""


class SiteError(CampaignError):
    """The site file or the user's overlay is wrong or incomplete."""


class StageError(CampaignError):
    """A stage cannot go on."""


class JournalError(CampaignError):
    """The campaign's record is damaged beyond a torn last line."""


class LeaseHeld(CampaignError):  # noqa: N818 says what is, as FileNotFound does
    """Another driver holds this campaign."""


class SchedulerError(CampaignError):
    """The batch system refused or did not answer.

    Attributes:
        transient: True where the same request may succeed later.
        unknown: True where the request may have been carried out all the same.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "", *, transient: bool = True, unknown: bool = False) -> None:
        super().__init__(what, where, remedy)
        self.transient, self.unknown = transient, unknown
