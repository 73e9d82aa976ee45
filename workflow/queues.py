"""Which queue of a site takes a job."""

from __future__ import annotations

from workflow.errors import SiteError
from workflow.site import Queue, Site


def takes(queue: Queue, nodes: int, walltime_s: float) -> bool:
    """Say whether a queue takes jobs of this size and length."""
    hours = walltime_s / 3600
    return queue.min_nodes <= nodes <= queue.max_nodes and queue.min_walltime_h <= hours <= queue.max_walltime_h


def offered(site: Site, name: str | None) -> tuple[Queue, ...]:
    """Return the queues that a stage may use: the one that it names, or all that need not be named."""
    return tuple(queue for queue in site.queues if (queue.name == name if name else not queue.asked_for))


def queue_for(site: Site, nodes: int, walltime_s: float, name: str | None = None) -> Queue:
    """Return the first queue of the site, in its order of preference, that takes such a job.

    Args:
        site: The site.
        nodes: Whole nodes.
        walltime_s: Seconds.
        name: The queue that the stage asks for; none: any.

    Raises:
        SiteError: None does.
    """
    for queue in offered(site, name):
        if takes(queue, nodes, walltime_s):
            return queue
    raise SiteError(
        f"no queue takes {nodes} nodes for {walltime_s / 3600:.2f} hours" + (f" in '{name}'" if name else ""),
        f"sites/{site.name}.yaml: queues",
        "See `campaign plan` for a block that fits.",
    )


def queue_named(site: Site, name: str) -> Queue:
    """Return a queue by name.

    Raises:
        SiteError: The site has none of that name.
    """
    for queue in site.queues:
        if queue.name == name:
            return queue
    known = ", ".join(queue.name for queue in site.queues)
    raise SiteError(f"no queue '{name}'", f"sites/{site.name}.yaml: queues", f"Known: {known}.")
