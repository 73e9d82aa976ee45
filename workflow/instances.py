"""Find the stage instances that a person means by a name."""

from __future__ import annotations

from model.registry import require
from workflow.campaign import Campaign
from workflow.errors import CampaignError, ConfigError
from workflow.graph import belongs


def keys_of(campaign: Campaign, stage: str | None, where: str) -> list[str]:
    """Return the instances of a stage, the one instance that is named, or all.

    Args:
        campaign: The campaign.
        stage: `train`, or `train/2`; None: all.
        where: Who asks, for the error.

    Raises:
        ConfigError: There is no such stage.
    """
    return keys_among([each.key for each in campaign.instances()], stage, where)


def keys_among(known: list[str], stage: str | None, where: str) -> list[str]:
    """Return those of the known instances that are meant.

    Args:
        known: Keys of all instances.
        stage: `train`, or `train/2`; None: all.
        where: Who asks, for the error.

    Raises:
        ConfigError: There is no such stage.
    """
    keys = [key for key in known if stage is None or belongs(key, stage)]
    if stage is not None and not keys:
        try:
            require(stage, known, "stage", where)
        except CampaignError as error:
            raise ConfigError(error.what, error.where, error.remedy) from error
    return keys
