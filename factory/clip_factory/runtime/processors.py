"""How many processors this process may use: those of the machine, of its affinity, and of its container's quota."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container's limits: `cpu.max` of version 2, `cpu/cpu.cfs_*` of version 1."""


@cache
def usable_cpus() -> int:
    """Processors that this process may use at once, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cgroup_quota(folder: Path) -> float | None:
    """The processors that a control group grants, as a number of them; None where it sets no limit."""
    try:
        if (limits := folder / "cpu.max").is_file():
            quota, period = limits.read_text().split()
        else:
            quota, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
