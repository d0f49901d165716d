"Every lesson has a promise, a reading time, take-aways, exercises with checks that give a hint first, alternative texts for its figures, and little visible code."

import ast
import base64
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from lessons import FIGURE, FOLDED, course_paths, has_figure, lesson_paths, library_paths, read_cells, summary_of
from run import cell_ids, compress_png, kept_outputs

each_lesson = pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
each_course_notebook = pytest.mark.parametrize("path", course_paths(), ids=lambda path: path.stem)  # the lessons and the capstone
each_notebook = pytest.mark.parametrize("path", [*course_paths(), *library_paths(), ROOT / "nbs" / "index.ipynb"], ids=lambda path: path.relative_to(ROOT / "nbs").as_posix())


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@each_course_notebook
def test_a_header_states_the_promise_the_objectives_and_the_time(path):
    opening = read_cells(path)[0]["source"]
    assert summary_of(path) and re.search(r"\btime\b", opening, re.IGNORECASE) and "Prerequisites" in opening and "minutes" in opening
    objectives = re.search(r"^\*\*After this \w+ you can\*\*\n\n((?:- .+\n)+)", opening, re.MULTILINE)
    assert objectives and len(objectives.group(1).splitlines()) >= 3


@each_course_notebook
def test_a_notebook_of_the_course_has_25_to_40_cells(path):
    assert 25 <= len(read_cells(path)) <= 40


@each_lesson
def test_a_lesson_closes_with_take_aways_and_exercises(path):
    headings = [line for cell in read_cells(path) if cell["cell_type"] == "markdown" for line in cell["source"].splitlines() if line.startswith("## ")]
    assert {"## Take-aways", "## Exercises"} <= set(headings)


@each_lesson
def test_exercises_have_a_starter_a_check_and_a_solution_that_is_not_shown(path):
    exercises = [cell for cell in read_cells(path) if "exercise" in tags(cell)]
    assert len(exercises) >= 2
    code = "\n".join(cell["source"] for cell in read_cells(path) if cell["cell_type"] == "code")
    for number, cell in enumerate(exercises, start=1):
        assert f"answer_{number} = ..." in cell["source"] and cell["metadata"]["solution"], f"exercise {number}"
        assert f"def check_{number}(" in code and re.search(rf"^check_{number}\(answer_{number}\)", code, re.MULTILINE)
        solution = "".join(cell["metadata"]["solution"]).strip()
        assert solution not in code, f"the solution of exercise {number} is visible in the lesson"


@each_lesson
def test_a_lesson_has_little_visible_code(path):
    visible = [line for cell in read_cells(path) if cell["cell_type"] == "code" and not set(FOLDED) & set(tags(cell)) and not has_figure(cell)
               for line in cell["source"].splitlines() if line.strip() and not line.startswith("#|")]
    assert len(visible) <= 120, f"{len(visible)} lines of visible code without a figure"


@each_lesson
def test_a_lesson_has_the_size_of_a_session(path):
    cells = read_cells(path)
    assert 3 <= sum(cell["source"].count("**Quiz") for cell in cells if cell["cell_type"] == "markdown") <= 5
    assert "**Open task.**" in cells[-1]["source"]
    row = next(line for line in cells[0]["source"].splitlines() if "minutes" in line)
    reading = sum(map(int, re.findall(r"(\d+) minutes (?:with exercises|of reading|of exercises)", row)))
    assert 40 <= reading <= 90, f"{reading} minutes"


@each_notebook
def test_every_figure_is_described(path):
    for cell in read_cells(path):
        if has_figure(cell):
            words = FIGURE.search(cell["source"])
            assert words and words.group(1).strip(), f"describe the figure with a line '#| fig-alt: ...': {cell['source'][:120]}"


@each_lesson
def test_cells_are_short(path):
    cells = [cell["source"] for cell in read_cells(path) if cell["cell_type"] == "code" and not set(FOLDED) & set(tags(cell))]
    long = [source for source in cells if len(source.splitlines()) > 45]
    assert not long, f"split the cell: {long[0][:200]}"


@each_notebook
def test_code_parses_and_no_error_or_progress_bar_is_stored(path):
    for cell in read_cells(path):
        if cell["cell_type"] == "code":
            ast.parse("\n".join(line for line in cell["source"].splitlines() if not line.startswith(("%", "!"))))
            assert not [output for output in cell["outputs"] if output["output_type"] == "error"], cell["source"][:120]
            printed = "".join("".join(output.get("text", "")) for output in cell["outputs"] if output["output_type"] == "stream")
            assert not re.search(r"\d%\|", printed) and "\r" not in printed, f"python nbs/_site/run.py {path.stem}"


def test_a_bar_that_was_written_over_is_not_stored():
    pieces = ["first\n", "\rtraining:  10%|#   |", "\rtraining:  50%|##  |", "\r                \r", "last\n"]
    printed = [{"output_type": "stream", "name": "stdout", "text": piece} for piece in pieces]
    noise = {"output_type": "stream", "name": "stderr", "text": "a message of a library"}
    assert [output["text"] for output in kept_outputs([*printed[:2], noise, *printed[2:]])] == ["first\nlast\n"]
    assert kept_outputs(printed[1:4]) == []


@pytest.mark.parametrize("colors, alpha", [(3, 255), (100_000, 255), (100_000, 128)])
def test_images_are_stored_with_the_same_pixels_in_fewer_bytes(colors, alpha):
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colors, 3), dtype=np.uint8)
    pixels = np.dstack([palette[rng.integers(colors, size=(60, 80))], np.full((60, 80), alpha, np.uint8)])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    before = base64.b64encode(file.getvalue()).decode()
    after = kept_outputs([{"output_type": "display_data", "data": {"image/png": before}}])[0]["data"]["image/png"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGBA")), pixels)
    assert len(after) <= len(before) and (alpha < 255 or len(after) < 0.9 * len(before)) and compress_png(after) == after


def test_the_ids_of_cells_follow_their_sources():
    cells = [{"cell_type": "code", "metadata": {}, "source": text} for text in ("a", "b", "a")]
    first = cell_ids(cells)
    assert len(set(first)) == 3 and cell_ids([{**cells[0], "source": "c"}, *cells[1:]])[1] == first[1]


def test_all_notebooks_together_are_light():
    total = sum(path.stat().st_size for path in (ROOT / "nbs").rglob("*.ipynb") if "solutions" not in path.parts)
    assert total <= 6_000_000, f"{total:,} bytes of notebooks: store smaller figures"
    large = [path.name for path in (ROOT / "nbs").rglob("*.ipynb")
             if any(len("".join(data)) > 300_000 for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for output in cell.get("outputs", [])
                    for kind, data in output.get("data", {}).items() if kind == "image/png")]
    assert not large, f"figures above 220 KB in {large}"
