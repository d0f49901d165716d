"""Write every line that installs facekp as `facekp.errors.requirement` gives it: from the repository's tag, or from PyPI once ON_PYPI is True.

python nbs/_site/install_lines.py rewrites README.md, data/README.md, the pages and the text of notebooks; --check lists lines that differ and ends with 1.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from lessons import ROOT

from facekp.errors import requirement

LINE = re.compile(r"""(pip install\s+)(['"]?)facekp(?:\[([\w,]+)\])?(?:\s*@\s*git\+[^\s'"`]+)?\2""")
ENDINGS = {".md", ".ipynb"}


def rewritten(text: str) -> str:
    "Return a text with corrected installation lines."
    return LINE.sub(lambda found: f"{found.group(1)}'{requirement(found.group(3) or '')}'", text)


def rewritten_notebook(text: str) -> str:
    "Return a notebook with corrected installation lines in its Markdown cells; code and outputs are kept."
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = rewritten("".join(cell["source"])).splitlines(keepends=True)
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n" if notebook != json.loads(text) else text


def stale() -> dict[Path, str]:
    "Return the files whose lines differ, each with its corrected text."
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for path in (ROOT / name for name in names):
        if path.suffix in ENDINGS and path.is_file():
            text = path.read_text(encoding="utf-8")
            new = rewritten_notebook(text) if path.suffix == ".ipynb" else rewritten(text)
            if new != text:
                found[path] = new
    return found


def main() -> int:
    found = stale()
    for path, text in found.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    return int(bool(found) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
