"""The device of a rank and torch's process-wide settings: threads, seed, dtype, determinism, memory."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from model.config import Task
from model.faults import OutOfDeviceMemory
from model.outcome import CampaignError
from model.parallel import Ranks

_DEVICES = {"gloo": "cpu", "nccl": "cuda", "xccl": "xpu"}
_GB = 1e9


def prepare(config: Task) -> None:
    """Set what torch keeps for the whole process."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    torch.set_default_dtype(torch.float64 if config.precision == "fp64" else torch.float32)
    if _DEVICES[config.backend] != "cpu":  # on a CPU the operations that we use are deterministic anyway
        torch.use_deterministic_algorithms(True, warn_only=True)


def device_of(config: Task, ranks: Ranks) -> torch.device:
    """Return this rank's device by the backend: gloo is the CPU, nccl and xccl are accelerators of this node.

    Raises:
        CampaignError: This node has no such accelerator.
    """
    kind = _DEVICES[config.backend]
    if kind == "cpu":
        return torch.device("cpu")
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type != kind:
        what = f"backend {config.backend} needs a device of type {kind}; torch finds {found.type if found else 'none'}"
        raise CampaignError(what, "backend", "Say `gloo` for the CPU, or install a torch for this node's accelerator.")
    return torch.device(kind, ranks.local_rank % torch.accelerator.device_count())


class MemoryLimit:
    """The memory that a task may use on its device.

    On a CPU the kernel is told (`RLIMIT_DATA`: heap and private mappings), so that an allocation beyond
    the limit fails in this process instead of waking the kernel's out-of-memory killer.

    Args:
        limit_gb: Limit in GB, or None for none.
        device: Where the model runs.
    """

    def __init__(self, limit_gb: float | None, device: torch.device) -> None:
        self._limit = None if limit_gb is None else int(limit_gb * _GB)
        self._device = device
        if self._limit is not None and device.type == "cpu":
            resource.setrlimit(resource.RLIMIT_DATA, (self._limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))

    def check(self) -> None:
        """Raise where the peak so far is above the limit.

        Raises:
            OutOfDeviceMemory: More memory was used than the task may use.
        """
        if self._limit is not None and (peak := self.peak()) > self._limit:
            raise OutOfDeviceMemory(f"needs {peak / _GB:.2f} GB, the device has {self._limit / _GB:.2f} GB")

    def peak(self) -> int:
        """Return the most bytes used so far: resident memory on a CPU, allocated ones on an accelerator."""
        if self._device.type != "cpu":
            return int(torch.accelerator.max_memory_allocated(self._device))
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # not getrusage: that one starts at the parent's peak
                return int(line.split()[1]) * 1024
        return 0
