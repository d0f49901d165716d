"Load scripts of studies/, recipes/, tools/ and examples/ as modules."

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_script(
    path: str,  # below the root of the repository, such as studies/grid.py
) -> ModuleType:
    "Return a script as a module, which may import neighbouring scripts; it is not added to sys.modules."
    script = ROOT / path
    sys.path.insert(0, str(script.parent))
    try:
        spec = importlib.util.spec_from_file_location(script.stem, script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(script.parent))
    return module
