"""Makes a service die of one item, FRAGILE_ITEM, as a fault in its own code would: loaded by Python as it starts."""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

HANDLERS = {"services.transformer.transform": "Transform", "services.dedup.outcome": "Outcomes"}


class Fragile:
    """Finds the modules above as usual, and makes their handlers fatal."""

    @staticmethod
    def find_spec(name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Python's own answer, with a step more when the module has been run."""
        spec = PathFinder.find_spec(name, path, target) if name in HANDLERS else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            handlers = getattr(module, HANDLERS[name])
            handle = handlers.handle

            async def fatal(self: Any, delivery: Any) -> None:
                if delivery.subject.endswith("." + os.environ["FRAGILE_ITEM"]):
                    os.kill(os.getpid(), signal.SIGKILL)
                await handle(self, delivery)

            handlers.handle = fatal

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get("FRAGILE_ITEM"):
    sys.meta_path.insert(0, Fragile)
