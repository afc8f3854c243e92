"""Declaration of compiled kernels: numba is loaded at the first call of one, not at import.

It takes a third of what a short command takes, and many commands call no kernel. So :func:`njit` of this module gives
something that becomes a kernel of numba's when it is called, or compiled into another. What numba makes is kept in
files, see :mod:`ztfmatch.core.kernelfiles`, with a digest of all sources that a kernel can be made of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ztfmatch.core.kernelsources import source_digest


class Kernel:
    """A function that numba makes something of when it is first asked for.

    Parameters
    ----------
    function : callable
    made_by : str
        Which function of :mod:`ztfmatch.core.kernelfiles` makes it.
    **options
        What that function takes.
    """

    def __init__(self, function: Callable[..., Any], made_by: str, **options: Any) -> None:
        functools.update_wrapper(self, function)
        self._made_by, self._options = made_by, options

    @functools.cached_property
    def made(self) -> Any:
        """What numba made of it: a dispatcher, or an intrinsic."""
        from ztfmatch.core import kernelfiles

        kernelfiles.let_call(Kernel)
        return getattr(kernelfiles, self._made_by)(self.__wrapped__, **self._options)

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return self.made(*arguments)

    def __getattr__(self, name: str) -> Any:
        """What numba's has: its signatures, what is kept of it."""
        if name.startswith("__") or name == "made":  # not there yet, which must not ask for it again
            raise AttributeError(name)
        return getattr(self.made, name)


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """As numba's decorator of this name, but what is kept is compiled anew whenever any source of kernels changed."""
    if function is None:
        return functools.partial(njit, **options)
    source_digest()  # of what this process has imported, not of what an upgrade puts in its place
    return Kernel(function, "dispatcher", **options)


def intrinsic(function: Callable[..., Any]) -> Any:
    """As numba's decorator of this name."""
    return Kernel(function, "intrinsic")
