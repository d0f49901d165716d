"""Generate the solution notebooks: each lesson with its exercises solved, without export directives and figures.

python nbs/_site/solutions.py [--check | --run NAME ...]: write nbs/course/solutions/NN_name.ipynb for every lesson that has exercises. With --check, name those that differ from their lesson. With --run,
execute those whose names begin with NAME and store their text outputs. The solution of an exercise is in the metadata of its cell, key `solution`, as a list of lines.
"""

import copy
import json
import os
import re
import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parents[1] / "course"
DIRECTIVE = re.compile(r"^#\|\s*(export|exporti|exports|default_exp|hide)\b.*\n?", re.MULTILINE)


def solved_cell(cell: dict) -> dict | None:
    "Return a cell of the solution notebook; None if it contains directives only."
    cell = copy.deepcopy(cell)
    if cell["cell_type"] != "code":
        return cell | {"source": "".join(cell["source"]).replace("](../", "](../../").splitlines(keepends=True)}  # one folder deeper
    solution = cell["metadata"].pop("solution", None)
    source = DIRECTIVE.sub("", "".join(cell["source"]))
    if solution is not None:
        source = "".join(solution)
        cell["metadata"]["tags"] = ["solution"]
    if not source.strip():
        return None
    return cell | {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}


def solve(lesson: dict, name: str, outputs: dict[str, list[dict]] | None = None) -> dict:
    "Return the notebook of a lesson's solutions; `outputs` are those of an earlier run, by the source of the cell."
    first = lesson["cells"][0]
    title, _, rest = "".join(first["source"]).partition("\n")
    note = f"{title}: solutions\n\n> Generated from [{name}](../{name}.ipynb): the same unit with its exercises solved.\n"
    cells = [first | {"source": note.splitlines(keepends=True)}]
    cells += [solved for cell in lesson["cells"][1:] if (solved := solved_cell(cell))]
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["outputs"] = (outputs or {}).get("".join(cell["source"]), [])
    return lesson | {"cells": cells}


def lessons() -> list[Path]:
    "Return the lessons that have exercises, in their order."
    paths = sorted(COURSE.glob("[0-9]*.ipynb"))
    return [path for path in paths if '"solution": [' in path.read_text(encoding="utf-8")]


def solution_text(path: Path) -> str:
    "Return the solution notebook of a lesson as the text of its file; an unchanged cell keeps its outputs."
    target = path.parent / "solutions" / path.name
    before = json.loads(target.read_text(encoding="utf-8"))["cells"] if target.is_file() else []
    outputs = {"".join(cell["source"]): cell["outputs"] for cell in before if cell["cell_type"] == "code"}
    lesson = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps(solve(lesson, path.stem, outputs), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def text_outputs(outputs: list[dict]) -> list[dict]:
    "Return the printed text and the tables of a cell's outputs; figures are in the lesson."
    kept = []
    for output in outputs:
        if output["output_type"] == "stream":
            kept.append({"name": "stdout", "output_type": "stream", "text": output["text"].splitlines(keepends=True)})
        elif "image/png" not in output.get("data", {}):
            data = {kind: text.splitlines(keepends=True) for kind, text in output.get("data", {}).items() if kind in ("text/html", "text/markdown", "text/plain")}
            kept += [{"data": data, "execution_count": None, "metadata": {}, "output_type": "execute_result"}] if data else []
    return kept


def run(path: Path) -> None:
    "Execute a solution notebook in its folder and store its text outputs."
    import nbformat
    from nbclient import NotebookClient
    from run import kept_outputs

    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    stored = json.loads(path.read_text(encoding="utf-8"))
    for cell, executed in zip(stored["cells"], notebook.cells):
        if cell["cell_type"] == "code":
            cell["outputs"] = text_outputs(kept_outputs(executed.outputs))
    path.write_text(json.dumps(stored, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    folder = COURSE / "solutions"
    if "--run" in sys.argv:
        os.environ.setdefault("FACEKP_PROFILE", "quick")
        for path in sorted(folder.glob("*.ipynb")):
            if path.name.startswith(tuple(sys.argv[sys.argv.index("--run") + 1:]) or ("",)):
                run(path)
                print(f"executed: {path.name}", flush=True)
        return 0
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
