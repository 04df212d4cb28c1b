"""What a fault needs inside the processes of a real run: Python imports this file at its start where PYTHONPATH leads here.

FAULT_MEMORY=N: a forward pass of more than N images asks torch's allocator for what no machine has. FAULT_PATIENCE=S:
storage is waited for S seconds. FAULT_LOG: a file that gets a line each time that memory runs out.
"""

import importlib.abc
import importlib.util
import os
import sys


def _little_memory(module) -> None:
    forward = module.VisionTransformer.forward

    def limited(self, x, *arguments, **options):
        if len(x) > int(os.environ["FAULT_MEMORY"]):
            with open(os.environ["FAULT_LOG"], "a") as log:
                log.write(f"{os.getpid()} {len(x)}\n")
            sys.modules["torch"].empty(len(x) << 50)
        return forward(self, x, *arguments, **options)

    module.VisionTransformer.forward = limited


def _little_patience(module) -> None:
    module.PATIENCE = float(os.environ["FAULT_PATIENCE"])


CHANGES = {
    "FAULT_MEMORY": ("timm.models.vision_transformer", _little_memory),
    "FAULT_PATIENCE": ("cbmir.patience", _little_patience),
}


class _Afterwards(importlib.abc.MetaPathFinder):
    """Lets a module be imported as usual, and changes it then: nothing is imported that would not have been."""

    def __init__(self, name: str, change) -> None:
        self.name, self.change = name, change

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def and_change(module) -> None:
            execute(module)
            self.change(module)

        spec.loader.exec_module = and_change
        return spec


sys.meta_path[:0] = [_Afterwards(*change) for variable, change in CHANGES.items() if variable in os.environ]
