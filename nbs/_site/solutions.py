"""Generate the solution notebooks: each lesson with its exercises solved, without outputs and export directives.

python nbs/_site/solutions.py [--check]: write nbs/course/solutions/NN_name.ipynb for every lesson that has exercises, or, with --check, name those
that differ from their lesson. The solution of an exercise is kept in the metadata of its cell, key `solution`, as a list of lines.
"""

import copy
import json
import re
import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parents[1] / "course"
DIRECTIVE = re.compile(r"^#\|\s*(export|exporti|exports|default_exp|hide)\b.*\n?", re.MULTILINE)


def solved_cell(cell: dict) -> dict | None:
    "Return a cell of the solution notebook; None for one that holds directives only."
    cell = copy.deepcopy(cell)
    if cell["cell_type"] != "code":
        return cell | {"source": "".join(cell["source"]).replace("](../", "](../../").splitlines(keepends=True)}  # one folder further down
    solution = cell["metadata"].pop("solution", None)
    source = DIRECTIVE.sub("", "".join(cell["source"]))
    if solution is not None:
        source = "".join(solution)
        cell["metadata"]["tags"] = ["solution"]
    if not source.strip():
        return None
    return cell | {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}


def solve(lesson: dict, name: str) -> dict:
    "Return the notebook of a lesson's solutions."
    first = lesson["cells"][0]
    title, _, rest = "".join(first["source"]).partition("\n")
    note = f"{title}: solutions\n\n> Generated from [{name}](../{name}.ipynb): the same unit with its exercises solved.\n"
    cells = [first | {"source": note.splitlines(keepends=True)}]
    cells += [solved for cell in lesson["cells"][1:] if (solved := solved_cell(cell))]
    return lesson | {"cells": cells}


def lessons() -> list[Path]:
    "Return the lessons that have exercises, in their order."
    paths = sorted(COURSE.glob("[0-9]*.ipynb"))
    return [path for path in paths if '"solution": [' in path.read_text(encoding="utf-8")]


def solution_text(path: Path) -> str:
    "Return the solution notebook of a lesson as the text of its file."
    lesson = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps(solve(lesson, path.stem), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    folder = COURSE / "solutions"
    stale = []
    for path in lessons():
        target, text = folder / path.name, solution_text(path)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                folder.mkdir(exist_ok=True)
                target.write_text(text, encoding="utf-8")
    for target in folder.glob("*.ipynb"):
        if target.name not in {path.name for path in lessons()} and "--check" not in sys.argv:
            target.unlink()
    if stale:
        print(("differ from their lessons: " if "--check" in sys.argv else "written: ") + ", ".join(stale))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
