"""Makes a service write what a later minor version might, a field more in each message; loaded as Python starts."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MESSAGES = "libs.common.messages"


class Later:
    """Finds that module as usual, and has it write more."""

    @staticmethod
    def find_spec(name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Python's own answer, with a step more when the module has been run."""
        spec = PathFinder.find_spec(name, path, target) if name == MESSAGES else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            encode = module.encode

            def more(message: Any) -> bytes:
                return encode(message)[:-1] + b',"of_a_later_version":{"nested":[1,"two",null]}}'  # type: ignore[no-any-return]

            module.encode = more  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Later)
