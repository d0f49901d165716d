"""The table of faults: kind, what can go wrong, what the user gets, test. Each test states its row in its docstring: `kind: 5 | what: ... | gets: ...`."""

import ast
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from lessons import ROOT, repository_url

TESTS = ROOT / "tests"
KINDS = {  # the kinds of faults that must have a test
    1: "Resuming another experiment", 2: "Labels in other units", 3: "Rotated, mirrored and inverted images", 4: "Value ranges and layouts of arrays", 5: "Times of video frames",
    6: "Groups of photos", 7: "Interruptions", 8: "File names", 9: "The user's files", 10: "Results next to their sources", 11: "Buffers, open files and tensors", 12: "HEIC",
    13: "Other files among the images", 14: "Tables and photos from other programs", 15: "State of the process", 16: "Auxiliary files in Kaggle's format", 17: "Progress bars and library messages",
    18: "Discarded faces", 19: "Lost faces in a video", 20: "Smoothing", 21: "JSON and CSV", 22: "Results as Python objects", 23: "Drawn results", 24: "Settings files", 25: "Paths in settings.ini",
    26: "Words and folders", 27: "Numbers out of range", 28: "Crops of another shape", 29: "Standard error while TensorFlow loads", 30: "Options without effect"}


class FaultTest(NamedTuple):
    "A test that shows what happens when a fault occurs."
    kinds: tuple[int, ...]  # keys of KINDS
    what: str  # what can go wrong
    gets: str  # what the user gets
    file: Path
    name: str  # of the function
    line: int  # where it begins


def read_docstring(text: str) -> tuple[tuple[int, ...], str, str] | None:
    "Return the kinds, what can go wrong and what the user gets; None for another docstring. Raise ValueError if a part is missing."
    if not text.startswith("kind:"):
        return None
    found = re.fullmatch(r"kind: (\d+(?:, \d+)*) \| what: (.+?) \| gets: (.+)", text)
    if not found or any(int(kind) not in KINDS for kind in found[1].split(", ")):
        raise ValueError(f"{text!r}: expected 'kind: N | what: ... | gets: ...' with N from 1 to {max(KINDS)}")
    return tuple(map(int, found[1].split(", "))), found[2], found[3]


def fault_tests(folder: Path = TESTS) -> list[FaultTest]:
    "Return the tests that state a fault, ordered by file and line; the files are parsed, not imported."
    tests = []
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and (told := read_docstring(ast.get_docstring(node) or "")):
                tests.append(FaultTest(*told, file, node.name, node.lineno))
    return tests


def tests_by_kind(tests: list[FaultTest]) -> dict[int, list[FaultTest]]:
    "Return the tests of each kind; a test of two kinds belongs to both."
    return {kind: [test for test in tests if kind in test.kinds] for kind in KINDS}


def fault_table(tests: list[FaultTest], folder: Path = ROOT) -> str:
    "Return the table in HTML, one group of rows per kind."
    head = "".join(f'<th scope="col">{text}</th>' for text in ("kind", "what can go wrong", "what the user gets", "test"))
    groups = [_group(KINDS[kind], rows, folder) for kind, rows in tests_by_kind(tests).items() if rows]
    return "\n".join(['<div class="scroll" tabindex="0" role="region" aria-label="Faults by kind">', '<table class="faults">', f"<thead><tr>{head}</tr></thead>", *groups, "</table>", "</div>"])


def _group(kind: str, rows: list[FaultTest], folder: Path) -> str:
    "Return the rows of one kind; its name spans them."
    first = f'<th scope="rowgroup" rowspan="{len(rows)}">{escape(kind)}</th>'
    lines = [f"<tr>{first if n == 0 else ''}<td>{escape(test.what)}</td><td>{escape(test.gets)}</td><td>{_link(test, folder)}</td></tr>" for n, test in enumerate(rows)]
    return "\n".join(["<tbody>", *lines, "</tbody>"])


def _link(test: FaultTest, folder: Path) -> str:
    "Return a link to the test in the repository."
    path = test.file.relative_to(folder).as_posix()
    return f'<a href="{repository_url()}/blob/main/{path}#L{test.line}" title="{path}: {test.name}">{escape(test.name.removeprefix("test_").replace("_", " "))}</a>'


def fault_lines() -> list[str]:
    "Return the section of the page."
    tests = fault_tests()
    return ["## Faults by kind", "", f"Users of similar programs reported these faults in public. The table shows what a user of facekp gets instead. Each row comes from one of {len(tests)} tests. "
            "`make test` runs them, and `make test-long` runs those that take minutes.", "", fault_table(tests), ""]
