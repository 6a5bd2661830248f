"""What a training process sets up before torch is imported: memory that is kept, where checkpoints go."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

# glibc's mallopt parameters (malloc.h)
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2


def keep_buffers() -> bool:
    """Tell glibc to keep freed memory: otherwise each step pays page faults for its big buffers.

    Must run before torch is imported. Returns whether it took effect (glibc only).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20)]
    accepted = [libc.mallopt(parameter, value) for parameter, value in settings]  # each is tried
    return accepted == [1] * len(settings)


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere bf16 is far slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        return "amx_bf16" in flags or "avx512_bf16" in flags
    except OSError:
        return False


def checkpoint_root() -> Path:
    """$UNROLL_CHECKPOINTS, or a folder outside any checkout, so that a fresh checkout goes on."""
    default = Path.home() / ".cache" / "unroll" / "checkpoints"
    return Path(os.environ.get("UNROLL_CHECKPOINTS", default)).expanduser()
