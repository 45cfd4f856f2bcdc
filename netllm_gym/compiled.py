"""Compile functions with numba, once for all processes where its cache can be written.

All compiled code imports numba from here, where it is first made sure that it finds the memory.
"""

import mmap
import os
import warnings
from collections.abc import Callable
from typing import Any


def _check_room() -> None:
    """Raise `MemoryError` where numba and the algebra that it loads cannot be loaded.

    OpenBLAS takes a buffer for each thread, and tries again for ever if it does not get it, as
    under `ulimit -v`.
    """
    if os.name != "posix":
        return
    threads = next(
        (
            int(said)
            for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
            if (said := os.environ.get(name, "")).isdecimal()
        ),
        os.cpu_count() or 1,
    )
    needed_mb = 330 + 45 * min(threads, os.cpu_count() or 1)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mmap.mmap(-1, needed_mb * 2**20, flags=private).close()
    except OSError:
        raise MemoryError(f"compiled code needs {needed_mb} MB of address space") from None


_check_room()
from numba import njit as njit  # noqa: E402


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator `njit(cache=True, **options)`, which may also go without a cache.

    numba finds no place for one where neither the package's folder nor the user's cache folder can
    be written to. Each process then compiles for itself, which is said once.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        warnings.warn(
            "no folder for numba's cache can be written to, so each process compiles anew: "
            "set NUMBA_CACHE_DIR to a folder",
            stacklevel=1,
        )
        return njit(**options)(function)

    return compiled
