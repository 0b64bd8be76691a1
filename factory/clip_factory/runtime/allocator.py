"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1 << 20  # bytes


def return_memory() -> None:
    """Have glibc return what is freed to the system: what is free now, and from now on every large block at once.

    Otherwise the blocks that a network needed while it was loaded stay with the process: of ViT-B-32 a third more than
    its weights. Other C libraries have no such functions, and lose nothing.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
