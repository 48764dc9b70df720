"""adshift: industrial visual anomaly detection under domain shift, as a DVC pipeline."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and the site; at run time `__getattr__` imports them at their first use
    from adshift.deploy.inference import Model, Prediction, Region
    from adshift.deploy.loading import load

__all__ = ["Model", "Prediction", "Region", "__version__", "load"]
__version__ = "0.1.0"

# The network's and NumPy's threads take turns with ours. By default those that have nothing to do keep a core busy for
# 25 ms and more, which is longer than an image takes. Read when these libraries are loaded, so set before.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

_LAZY = ("Model", "Prediction", "Region", "load")  # imported late, so that `import adshift` itself stays cheap


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'adshift' has no attribute {name!r}")
    from adshift.deploy import inference, loading

    return getattr(loading if name == "load" else inference, name)
