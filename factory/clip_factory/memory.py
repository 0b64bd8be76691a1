"""How networks use the machine: what the C library does with memory, and how many threads torch may have."""

from __future__ import annotations

import ctypes

from clip_factory.runtime.processors import usable_cpus

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 1 << 30  # bytes


def keep_memory() -> None:
    """Have glibc keep freed memory instead of returning every large tensor to the kernel, which zeroes it anew.

    A third of the processor time of training goes there otherwise (150 against 215 photos a second on one core, torch
    2.15), a fifth of the offline teacher's. Other C libraries have no `mallopt`, and lose nothing.
    """
    try:
        libc = ctypes.CDLL(None)
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEPT)
    except (AttributeError, OSError, TypeError):
        return


def keep_to_quota() -> None:
    """Have torch use no more threads than this process may run at once.

    It counts the machine's processors, or those of its affinity; a container's quota it does not see, and would wait
    for its own threads most of the time.
    """
    import torch  # who only asks for the first needs none

    if usable_cpus() < torch.get_num_threads():
        torch.set_num_threads(usable_cpus())
