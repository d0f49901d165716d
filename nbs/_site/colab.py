"""Give every lesson a line with `Open in Colab` and `Download`, and a set-up cell for Colab.

python nbs/_site/colab.py writes them into the notebooks of nbs/course/ and those of nbs/teaching/ that train (repeatable without further changes; outputs are kept);
python nbs/_site/colab.py --check lists the notebooks that lack them and ends with 1.
"""

import json
import re
import sys
from pathlib import Path

from lessons import BADGES, ROOT, colab_paths, colab_url, page_name, repository_url

from facekp.errors import requirement

TAG = "set-up"


def badge_line(name: str) -> str:
    "Return the line under a lesson's title."
    return (f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab_url(name)}) "
            f"[Download]({repository_url()}/raw/main/nbs/{name}.ipynb)")


def set_up_source() -> str:
    "Return the set-up cell."
    return f'''# Set-up, the same in every lesson: in Colab it installs facekp; elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("facekp") is None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "{requirement('train')}"]
    if subprocess.run(command).returncode:
        raise SystemExit("facekp could not be installed: see pip's message above, then run this cell again")
    os.environ.setdefault("FACEKP_PROFILE", "quick")'''


def _lines(source: str) -> list[str]:
    "Return a source as notebooks store it."
    return source.splitlines(keepends=True)


def with_colab(notebook: dict, name: str) -> dict:
    "Return a notebook with the right badge line and set-up cell."
    first, *others = notebook["cells"]
    text = BADGES.sub("", "".join(first["source"])).rstrip("\n")
    title, summary, rest = re.fullmatch(r"(# .+)\n*(> .+(?:\n> .+)*)?((?:.|\n)*)", text).groups()
    parts = [title, summary, badge_line(name), rest.strip("\n")]
    first = first | {"source": _lines("\n\n".join(part for part in parts if part))}
    others = [cell for cell in others if TAG not in cell["metadata"].get("tags", [])]
    others = [cell | {"metadata": cell["metadata"] | {"jupyter": {"source_hidden": True}}} if "hide-input" in cell["metadata"].get("tags", []) else cell
              for cell in others]  # solutions stay folded in JupyterLab too
    set_up = {"cell_type": "code", "execution_count": None, "id": TAG, "metadata": {"tags": [TAG]}, "outputs": [], "source": _lines(set_up_source())}
    return notebook | {"cells": [first, set_up, *others]}


def as_text(notebook: dict) -> str:
    "Return a notebook as nbdev-clean writes it."
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def refresh(path: Path) -> bool:
    "Write a notebook's line and cell; return whether that changed anything."
    before = path.read_text(encoding="utf-8")
    after = as_text(with_colab(json.loads(before), page_name(path)))
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def stale() -> list[Path]:
    "Return the lessons whose badge line or set-up cell is missing or outdated."
    return [path for path in colab_paths() if (notebook := json.loads(path.read_text(encoding="utf-8"))) != with_colab(notebook, page_name(path))]


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = stale()
        print("\n".join(f"{path.relative_to(ROOT)}: run python nbs/_site/colab.py" for path in found) or "every lesson has its line and its set-up cell")
        return 1 if found else 0
    changed = [path.name for path in colab_paths() if refresh(path)]
    print(f"{len(changed)} of {len(colab_paths())} notebooks written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
