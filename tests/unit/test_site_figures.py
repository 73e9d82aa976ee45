"""Key figures of the packaged sites, written down a second time from what the facilities say, with where they say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.site import Site, load_site
from workflow.site_facts import figures

GUIDE = "Frontier User Guide, 2026-07-07"
ROCM = "PyTorch on Frontier, 2026-07-07"
RUNNING = "Running Jobs on Aurora, 2026-07-27"
ONECCL = "oneCCL on Aurora, 2026-03-17"
ARCHITECTURE = "docs.nersc.gov/systems/perlmutter/architecture, archived copy"
TUTORIAL = "NERSC/workflow-automation-tutorial, nersc-best-practices.md, 2026-05-27"
PLUGIN = "NERSC/nccl-ofi-plugin, 2025-01-05"
KEYS = [
    ("frontier", "nodes", 77 * 128, GUIDE),
    ("frontier", "node.devices", 8, GUIDE),
    ("frontier", "node.cores", 56, GUIDE),
    ("frontier", "node.device_memory_gb", 64, GUIDE),
    ("frontier", "node.memory_gb", 512, GUIDE),
    ("frontier", "node.local", "/mnt/bb/{user}/{job}", GUIDE),
    ("frontier", "launcher_options", ("--gpu-bind=closest",), GUIDE),
    ("frontier", "scheduler.options.arguments", ["--constraint=nvme", "--network=disable_rdzv_get"], ROCM),
    ("frontier", "environment.FI_MR_CACHE_MONITOR", "kdreg2", ROCM),
    ("frontier", "environment.FI_CXI_RDZV_PROTO", "alt_read", ROCM),
    ("frontier", "environment.NCCL_SOCKET_IFNAME", "hsn0,hsn1,hsn2,hsn3", ROCM),
    ("frontier", "environment.http_proxy", "http://proxy.ccs.ornl.gov:3128/", ROCM),
    ("frontier", "environment.NCCL_NET", "Socket", ROCM),
    ("frontier", "environment_across.NCCL_NET", "OFI", ROCM),
    ("aurora", "nodes", 10_624, "Aurora Machine Overview, 2025-03-11"),
    ("aurora", "node.devices", 12, "PyTorch on Aurora, 2026-03-17"),
    ("aurora", "node.cores", 102, RUNNING),
    ("aurora", "node.device_memory_gb", 64, "PyTorch on Aurora, 2026-03-17"),
    ("aurora", "node.memory_gb", 960, "Aurora System Updates, 2025-06-23"),
    ("aurora", "node.address_suffix", ".hsn.cm.aurora.alcf.anl.gov", "PyTorch on Aurora, 2026-03-17"),
    ("aurora", "scheduler.options.filesystems", "home:flare", RUNNING),
    ("aurora", "scheduler.options.arguments", ["-k doe"], RUNNING),
    ("aurora", "environment.ZE_FLAT_DEVICE_HIERARCHY", "FLAT", "PyTorch on Aurora, 2026-03-17"),
    ("aurora", "environment.CCL_PROCESS_LAUNCHER", "pmix", ONECCL),
    ("aurora", "environment.CCL_ATL_TRANSPORT", "mpi", ONECCL),
    ("aurora", "environment.CCL_KVS_MODE", "mpi", ONECCL),
    ("aurora", "environment.FI_MR_CACHE_MONITOR", "userfaultfd", ONECCL),
    ("perlmutter", "nodes", 1536 + 256, ARCHITECTURE),
    ("perlmutter", "node.devices", 4, ARCHITECTURE),
    ("perlmutter", "node.device_memory_gb", 40, ARCHITECTURE),
    ("perlmutter", "node.memory_gb", 256, "docs.nersc.gov, node types, archived copy"),
    ("perlmutter", "node.cores", 128, "docs.nersc.gov/machinelearning/launchers, archived copy"),
    (
        "perlmutter",
        "scheduler.options.arguments",
        ["--gpus-per-node=4"],
        "docs.nersc.gov/machinelearning/launchers, archived copy",
    ),
    ("perlmutter", "scheduler.poll_s", 120, TUTORIAL),
    ("perlmutter", "environment.NCCL_SOCKET_IFNAME", "hsn", PLUGIN),
    ("perlmutter", "environment_across.NCCL_NET", "AWS Libfabric", PLUGIN),
]
QUEUES = {
    # least and most nodes, least and most hours
    # Frontier User Guide 2026-07-07, "Job Priority by Node Count", Extended Partition, Debug QOS
    "frontier": {
        "bin1": (5645, 9472, 0, 12),
        "bin2": (1882, 5644, 0, 12),
        "bin3": (184, 1881, 0, 12),
        "bin4": (92, 183, 0, 6),
        "bin5": (1, 91, 0, 2),
        "extended": (1, 64, 0, 24),
        "debug": (1, 9472, 0, 2),
    },
    # Running Jobs on Aurora 2026-07-27, table of queues; each from 5 minutes
    "aurora": {
        "small": (256, 1024, 5 / 60, 12),
        "medium": (1025, 1999, 5 / 60, 18),
        "large": (2000, 10_624, 5 / 60, 24),
        "capacity": (1, 16, 5 / 60, 168),
        "debug-scaling": (2, 256, 5 / 60, 1),
        "debug": (1, 2, 5 / 60, 1),
    },
    # debug: the tutorial of NERSC; all else from memory, and marked so
    "perlmutter": {
        "regular": (1, 1792, 0, 48),
        "regular80": (1, 256, 0, 48),
        "preempt": (1, 128, 0, 48),
        "premium": (1, 1792, 0, 48),
        "debug": (1, 4, 0, 0.5),
    },
}
LIMITS = {
    "frontier": {
        "limits.all.submitted": "100",
        "limits.bin1+bin2+bin3+bin4+bin5.eligible": "4",
        "limits.extended.running": "1",
        "limits.extended.eligible": "1",
        "limits.debug.submitted": "1",
    },
    "aurora": {
        **{f"limits.{name}.running": "10 for each project" for name in ("small", "medium", "large")},
        **{f"limits.{name}.submitted": "100 for each project" for name in ("small", "medium", "large")},
        "limits.capacity.running": "2",
        "limits.capacity.submitted": "5",
        "limits.debug-scaling.submitted": "1",
        "limits.debug.submitted": "1",
    },
    "perlmutter": {
        "limits.regular+regular80.submitted": "5,000",
        "limits.regular+regular80.eligible": "2",
        "limits.premium.submitted": "5",
        "limits.debug.submitted": "5",
    },
}
FROM_MEMORY = {
    *(f"queues.{name}{end}" for name in ("regular", "regular80", "preempt", "premium") for end in ("", ".options")),
    "limits.regular+regular80.submitted",
    "limits.premium.submitted",
}
"""What of Perlmutter's queues no text at hand says: NERSC's table of QOS could not be read."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    return tmp_path


def value(site: Site, key: str) -> Any:
    """Return what a site states under a dotted key."""
    found: Any = site
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


@pytest.mark.parametrize(("site", "key", "expected", "source"), KEYS, ids=lambda each: str(each)[:40])
def test_a_figure_is_what_the_facility_says(site: str, key: str, expected: Any, source: str) -> None:
    assert value(load_site(site), key) == expected, source


@pytest.mark.parametrize("site", QUEUES)
def test_queues_and_limits_are_what_the_facility_says(site: str) -> None:
    loaded = load_site(site)
    found = {
        each.name: (each.min_nodes, each.max_nodes, pytest.approx(each.min_walltime_h, abs=1e-4), each.max_walltime_h)
        for each in loaded.queues
    }
    assert found == QUEUES[site]
    assert {each.key: each.value for each in figures(loaded) if each.key.startswith("limits")} == LIMITS[site]


@pytest.mark.parametrize("site", QUEUES)
def test_what_is_from_memory_says_so(site: str) -> None:
    rows = [each for each in figures(load_site(site)) if each.key.startswith(("queues", "limits"))]
    assert {each.key for each in rows if each.mark == "unverified"} == (FROM_MEMORY if site == "perlmutter" else set())
    assert all("from memory" in each.source for each in rows if each.mark == "unverified")
    assert all("from memory" not in each.source for each in rows if each.mark == "source")


def test_a_refusal_by_a_rule_from_memory_says_so(home: Path) -> None:
    fields = {
        "name": "p",
        "branches": {"a": {"reader": "extxyz", "path": "a"}},
        "stages": {
            "long": {"kind": "train", "backbone": "painn", "nodes": 4, "walltime": "60:00"},
            "quick": {"kind": "train", "backbone": "painn", "nodes": 8, "walltime": "00:20", "queue": "debug"},
        },
    }
    (home / "c.yaml").write_text(yaml.safe_dump(fields))
    plan = make_plan(load_campaign(home / "c.yaml", "perlmutter"))
    long, quick = (refusal.source for stage in plan.stages for refusal in stage.refusals)
    assert long.startswith("from memory") and long.endswith("(unverified)")
    assert quick.startswith("NERSC/workflow-automation-tutorial") and "unverified" not in quick
