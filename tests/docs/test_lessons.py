"What every lesson has: a box that says what it is for, exercises whose solutions run, findings or traps, words for its figures, outputs of its own source."

import ast
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from lessons import FIGURE, has_figure, lesson_paths, read_cells
from run import cell_ids, kept_outputs

BOX = "| You will be able to | You need | Time | Data |"
PAGE = 100  # letters in a line
each_lesson = pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)


@each_lesson
def test_opens_with_its_box(path):
    first = read_cells(path)[0]["source"].splitlines()
    assert BOX in first, "the first cell says what it is for, what it needs, how long it takes and on which faces"
    row = first[first.index(BOX) + 2]
    assert row.count(" | ") == 3 and all(part.strip() for part in row.strip("|").split("|"))


@each_lesson
def test_has_exercises_with_checks_and_solutions_that_run(path):
    cells = read_cells(path)
    exercises = [int(number) for cell in cells if cell["cell_type"] == "markdown" for number in re.findall(r"^### (\d)\. ", cell["source"], re.MULTILINE)]
    assert exercises == list(range(1, len(exercises) + 1)) and 3 <= len(exercises) <= 4
    solutions = [cell for cell in cells if "solution" in cell["metadata"].get("tags", [])]
    assert len(solutions) == len(exercises)
    code = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
    for number, cell in enumerate(solutions, start=1):
        assert "hide-input" in cell["metadata"]["tags"], "a solution is folded"
        assert cell["source"].startswith(f'# @title Solution {number} {{ display-mode: "form" }}\n'), "Colab folds a cell by this line"
        assert f"def check_{number}(" in code and re.search(rf"^check_{number}\(", cell["source"], re.MULTILINE), "each solution is put to its check"
        said = "".join("".join(output.get("text", "")) for output in cell["outputs"])
        assert said.startswith("right"), "run the notebook: the check has not said that the solution is right"


@each_lesson
def test_a_check_can_fail(path):
    code = "\n\n".join(cell["source"] for cell in read_cells(path) if cell["cell_type"] == "code")
    checks = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef) and re.fullmatch(r"check_\d", node.name)]
    for check in checks:
        said = [node.msg for node in ast.walk(check) if isinstance(node, ast.Assert)]
        assert said and all(isinstance(words, (ast.Constant, ast.JoinedStr)) for words in said), f"a check says what is amiss: {check.name}"


@each_lesson
def test_ends_with_findings_or_traps(path):
    headings = [line for cell in read_cells(path) if cell["cell_type"] == "markdown" for line in cell["source"].splitlines() if line.startswith("## ")]
    assert "## What could go wrong" in headings or any(line.startswith("## What we found") for line in headings)


@each_lesson
def test_every_figure_has_words_of_its_own(path):
    for cell in read_cells(path):
        if has_figure(cell):
            words = FIGURE.search(cell["source"])
            assert words and len(words.group(1).split()) >= 5, f"say what is seen with a line '#| fig-alt: …': {cell['source'][:120]}"


@each_lesson
def test_cells_are_short(path):
    long = [cell["source"] for cell in read_cells(path) if cell["cell_type"] == "code" and len(cell["source"].splitlines()) > 40]
    assert not long, f"split the cell: {long[0][:200]}"


@each_lesson
def test_code_that_is_only_read_fits_the_page(path):
    code = [cell["source"] for cell in read_cells(path) if cell["cell_type"] == "code" and "set-up" not in cell["metadata"].get("tags", [])]
    wide = [line for source in code if "#| export" not in source for line in source.splitlines() if len(line) > PAGE and not line.startswith("#|")]
    assert not wide, f"wider than the {PAGE} letters that a page or a small window of JupyterLab shows: {wide[0]}"


def test_a_bar_that_was_written_over_is_not_stored():
    pieces = ["first\n", "\rtraining:  10%|#   |", "\rtraining:  50%|##  |", "\r                \r", "last\n"]
    printed = [{"output_type": "stream", "name": "stdout", "text": piece} for piece in pieces]
    noise = {"output_type": "stream", "name": "stderr", "text": "a note of a library"}
    assert [output["text"] for output in kept_outputs([*printed[:2], noise, *printed[2:]])] == ["first\nlast\n"]
    assert kept_outputs(printed[1:4]) == []


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_bar_is_stored(path):
    printed = ["".join(output["text"]) for cell in read_cells(path) for output in cell.get("outputs", []) if output["output_type"] == "stream"]
    bars = [text for text in printed if re.search(r"\d%\|", text) or "\r" in text]
    assert not bars, f"left of a progress bar: python nbs/_site/run.py {path.stem}\n{bars[0]}"


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_outputs_are_those_of_the_source(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    changed = [cell for cell, name in zip(cells, cell_ids(cells)) if cell["cell_type"] == "code" and cell["id"] != name]
    assert not changed, f"changed after it was run: python nbs/_site/run.py {path.stem}\n{''.join(changed[0]['source'])[:200]}"
