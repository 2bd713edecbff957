"""Puts empty modules in the place of mlx, which runs on Apple's machines alone. mlx-dfloat's NumPy reader imports it, and
needs nothing of it.
"""

import sys
import types


class Nothing(types.ModuleType):
    """A module in which every name is a class without content."""

    def __getattr__(self, name):
        return type(name, (), {})


core = Nothing("mlx.core")
mlx = Nothing("mlx")
mlx.core, mlx.__path__ = core, []
sys.modules.update({"mlx": mlx, "mlx.core": core})
