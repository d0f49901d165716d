"Turn the notebooks of nbs/ into pages: hidden cells gone, buttons under the title, an alternative text behind every picture."

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "nbs"
FIGURE = re.compile(r"^#\|\s*fig-alt:\s*(.+)$", re.MULTILINE)
BADGES = re.compile(r"^\[!\[Open in Colab\].*\n?", re.MULTILINE)
BOX = re.compile(r"^\|( You will be able to .+)\|\n\|[-: |]+\|\n\|(.+)\|$", re.MULTILINE)


def repository_url() -> str:
    "The address of the repository, from pyproject.toml."
    found = re.search(r'^Repository = "(.+?)/?"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1)


def colab_url(name: str) -> str:
    "Where Colab opens a notebook of nbs/."
    return repository_url().replace("https://github.com/", "https://colab.research.google.com/github/") + f"/blob/main/nbs/{name}.ipynb"


def lesson_paths() -> list[Path]:
    "The lessons in their order: every notebook whose name begins with a number."
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def read_cells(path: Path) -> list[dict]:
    "A notebook's cells, each source as one string."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def title_of(path: Path) -> str:
    "The title of a notebook: its first heading."
    return re.search(r"^# (.+)$", read_cells(path)[0]["source"], re.MULTILINE).group(1)


def summary_of(path: Path) -> str:
    "What a notebook says of itself in one line, behind `>`; empty where it says nothing."
    found = re.search(r"^> (.+)$", read_cells(path)[0]["source"], re.MULTILINE)
    return found.group(1) if found else ""


def short_title(path: Path) -> str:
    "A title that fits into the sidebar: number, and the words before the colon."
    return f"{int(path.stem.split('_')[0])} · {title_of(path).split(':')[0].replace('`', '')}"


def _text_of(node: ast.expr) -> str:
    "The text of a string or f-string; what is filled in later shows as dots."
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values).removeprefix("…: ")
    return ""


def _titles(source: str) -> list[str]:
    "Titles that a cell gives to its figure: of the whole figure first, of single axes after them."
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    whole, single = [], []
    for call in calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        first = [_text_of(argument) for argument in call.args[-2:]]
        named = [_text_of(keyword.value) for keyword in call.keywords if keyword.arg == "title"]
        if name == "suptitle":
            whole += first
        elif name.startswith("show_"):
            whole += named + first
        elif name in ("set", "set_title"):
            single += named + (first if name == "set_title" else [])
    return [text for text in (*whole, *single) if re.search(r"\w{3}", text) and "{" not in text]


def _drawn_by(source: str) -> str:
    "What the function that draws a cell's figure says of itself in its docstring."
    for name in re.findall(r"\b(show_\w+)\(", source):
        for module in sorted((ROOT / "facekp").glob("*.py")):
            found = re.search(rf'^def {name}\((?:.|\n)*?\n    "(.+)"$', module.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found.group(1)
    return ""


def alternative_text(source: str, before: str) -> str:
    "Say what a cell's figure shows: `#| fig-alt:`, else its title, else its function's docstring, else the sentence before it."
    written = FIGURE.search(source)
    if written:
        return written.group(1).strip()
    code = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
    titles = _titles(code)
    title = titles[0] if titles else re.sub(r"^Draw ", "", _drawn_by(source))
    if len(re.findall(r"\w+", title)) < 4:  # a title such as "Blur" needs the words before it
        sentence = re.split(r"(?<=[.:?])\s", before)[0]
        title = " ".join(filter(None, ["" if "…" in title or not title else f"{title.rstrip('.:')}.", sentence]))
    return f"Figure: {title.rstrip('.:')}" + ("" if title.endswith("?") else ".")


def said_before(markdown: str, before: str) -> str:
    "The words of a Markdown cell without headings and signs; where it has none, those of the cell before it."
    return " ".join(re.sub(r"^#+ .*|[*`]", "", markdown, flags=re.MULTILINE).split()) or before


def has_figure(cell: dict) -> bool:
    "Whether a cell shows a picture."
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def box_as_list(markdown: str) -> str:
    "A lesson's opening box, a table of one row in the notebook, as a list of terms, which a narrow page has room for."
    def as_list(found: re.Match) -> str:
        terms, meanings = ([part.strip() for part in re.split(r"(?<!\\)\|", line)] for line in found.groups())
        return "\n".join(["```{container} box", *(f"{term}\n: {meaning}\n" for term, meaning in zip(terms, meanings, strict=True)), "```"])

    return BOX.sub(as_list, markdown)


def _page_cell(cell: dict, before: str) -> dict | None:
    "A cell as the page shows it; None where it stays hidden."
    source, metadata = cell["source"], dict(cell["metadata"])
    if cell["cell_type"] != "code":
        return cell | {"source": box_as_list(BADGES.sub("", source))}
    if re.search(r"^#\|\s*(hide|default_exp)\b", source, re.MULTILINE) or "set-up" in metadata.get("tags", []):
        return None
    given = metadata.get("tags", [])
    tags = ["remove-input"] if "hide_input" in given or re.search(r"#\|\s*echo:\s*false", source) else [tag for tag in given if tag == "hide-input"]
    metadata = {"tags": tags}
    if has_figure(cell):
        metadata["mystnb"] = {"image": {"alt": alternative_text(source, before)}}
    shown = re.sub(r"^(?:#\||# @title).*\n?", "", source, flags=re.MULTILINE).strip("\n")
    return cell | {"source": shown, "metadata": metadata} if shown or cell["outputs"] else None


def page_cells(path: Path) -> list[dict]:
    "A notebook's cells as its page shows them."
    shown, before = [], ""
    for cell in read_cells(path):
        if cell["cell_type"] == "markdown":
            before = said_before(cell["source"], before)
        page_cell = _page_cell(cell, before)
        if page_cell is not None:
            shown.append(page_cell)
    return shown


def buttons(name: str) -> dict:
    "The cell with a lesson's two buttons."
    source = (f'<p class="buttons"><a class="button" href="{colab_url(name)}">Open in Colab</a>\n'
              f'<a class="button quiet" href="../notebooks/{name}.ipynb" download>Download</a></p>')
    return {"cell_type": "markdown", "id": "buttons", "metadata": {}, "source": source}


def write_notebook(path: Path, cells: list[dict]) -> None:
    "Write cells as a notebook."
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")


def write_lesson(path: Path, folder: Path) -> None:
    "Write a lesson's page."
    cells = page_cells(path)
    write_notebook(folder / path.name, [cells[0], buttons(path.stem), *cells[1:]])
