"The solution notebooks: they match their lessons, every exercise has a check, and the checks accept the solution and nothing else."
import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))
import solutions  # noqa: E402

LESSONS = solutions.lessons()

# runs after each check and passes it answers that are wrong in value, sign, order or type
PROBE = '''
def _wrong(answer):
    import numpy as np
    yield from (None, "", "a word", float("nan"), -1e9)
    if isinstance(answer, (bool, np.bool_)):
        yield not answer
    elif isinstance(answer, (int, float, np.number)):
        yield from (answer + 1, answer * 1.02 + 0.01, -answer - 1)
    elif isinstance(answer, str):
        yield from (answer + "x", answer[:-1])
    elif isinstance(answer, (tuple, list)) and len(answer):
        yield from (answer[:-1], [value for value in answer] + [0])
        if all(isinstance(value, (int, float, np.number)) for value in answer):
            yield from ([value + 1 for value in answer], [-value - 1 for value in answer])
            yield from (type(answer)(value + (place == wrong) for place, value in enumerate(answer)) for wrong in range(len(answer)))
    elif isinstance(answer, dict):
        for key, value in answer.items():
            if isinstance(value, (int, float, np.number)):
                yield {**answer, key: value * 1.02 + 0.01}
            yield {other: kept for other, kept in answer.items() if other != key}
    elif isinstance(answer, np.ndarray) and answer.dtype.kind in "fiu":
        yield from (answer + 1, answer[:-1] if answer.ndim and len(answer) > 1 else answer + 2)
        for column in range(answer[0].size if answer.ndim > 1 and len(answer) else 0):
            changed = answer.reshape(len(answer), -1).copy()
            if not np.isnan(changed[:, column]).all():
                changed[:, column] += 1
                yield changed.reshape(answer.shape)


def _probe(check, answer):
    import contextlib, io
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        check(answer)
    assert "Correct" in printed.getvalue(), "the check does not accept the solution"
    for wrong in _wrong(answer):
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                check(wrong)
        except Exception:
            continue
        assert "Correct" not in printed.getvalue(), f"the check accepts {wrong!r}"
'''


def exercises(lesson):
    "Return the starter code of a lesson's exercises."
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if "solution" in cell["metadata"]]


def test_there_are_lessons_with_exercises():
    assert {"04_metrics", "06_baseline", "07_augmentation"} <= {path.stem for path in LESSONS}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_solutions_match_their_lesson(lesson):
    target = lesson.parent / "solutions" / lesson.name
    assert target.is_file(), "run python nbs/_site/solutions.py"
    assert target.read_text(encoding="utf-8") == solutions.solution_text(lesson), "run python nbs/_site/solutions.py"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_solutions_show_that_their_answers_are_accepted(lesson):
    stored = json.loads((lesson.parent / "solutions" / lesson.name).read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in stored for output in cell.get("outputs", [])]
    printed = ["".join(output.get("text", "")) for output in outputs]
    assert sum("Correct." in text for text in printed) == len(exercises(lesson)), f"run python nbs/_site/solutions.py --run {lesson.stem}"
    assert not any("Not answered yet" in text for text in printed) and not any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_exercises_start_empty_and_have_a_check(lesson):
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    given = [cell for cell in cells if "solution" in cell["metadata"]]
    assert len(given) >= 2
    for number, cell in enumerate(given, start=1):
        assert f"answer_{number} = ..." in "".join(cell["source"]) and "exercise" in cell["metadata"]["tags"]
        assert f"answer_{number} = " in "".join(cell["metadata"]["solution"]) or f"def answer_{number}" in "".join(cell["metadata"]["solution"])
        assert f"def check_{number}(" in text and f"check_{number}(answer_{number})" in text
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        assert "Correct." not in str(output.get("text", "")), "a student's notebook shows the output of a solution"


def test_a_solution_notebook_has_neither_directives_nor_outputs():
    lesson = {"cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "\n", "> Promise.\n"]},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": ["#| default_exp x\n"], "outputs": [], "execution_count": None},
        {"cell_type": "code", "id": "c", "metadata": {}, "source": ["#| export\n", "a = 1\n"], "outputs": [{"text": "1"}], "execution_count": 3},
        {"cell_type": "code", "id": "d", "metadata": {"tags": ["exercise"], "solution": ["answer_1 = a + 1"]}, "source": ["answer_1 = ..."],
         "outputs": [], "execution_count": None}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    cells = solutions.solve(lesson, "00_title")["cells"]
    assert [cell["id"] for cell in cells] == ["a", "c", "d"]
    assert "".join(cells[0]["source"]).startswith("# Title: solutions\n")
    assert cells[1]["source"] == ["a = 1\n"] and cells[1]["outputs"] == [] and cells[1]["execution_count"] is None
    assert cells[2]["source"] == ["answer_1 = a + 1"] and "solution" not in cells[2]["metadata"]
    assert lesson["cells"][3]["source"] == ["answer_1 = ..."], "the lesson itself was changed"


@pytest.mark.long
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_solutions_are_accepted_and_other_answers_are_not(lesson, tmp_path):
    from nbclient import NotebookClient

    notebook = nbformat.reads(solutions.solution_text(lesson), 4)
    count = len(exercises(lesson))
    probes = [PROBE, *(f"_probe(check_{number}, answer_{number})" for number in range(1, count + 1))]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in probes]
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
