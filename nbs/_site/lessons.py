"Turn the notebooks of nbs/course and nbs/library into pages: hidden cells removed, helper cells folded, buttons under the title, alternative texts."

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "nbs"
COURSE, LIBRARY = NOTEBOOKS / "course", NOTEBOOKS / "library"
FOLDED = ("set-up", "hide-input")  # tags of cells that a page shows folded
FIGURE = re.compile(r"^#\|\s*fig-alt:\s*(.+)$", re.MULTILINE)
BADGES = re.compile(r"^\[!\[Open in Colab\].*\n?", re.MULTILINE)
BOX = re.compile(r"^\|( Prerequisites .+)\|\n\|[-: |]+\|\n\|(.+)\|$", re.MULTILINE)


def repository_url() -> str:
    "Return the address of the repository, from pyproject.toml."
    found = re.search(r'^Repository = "(.+?)/?"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1)


def site_url() -> str:
    "Return the address of the site, from pyproject.toml, with its last slash."
    found = re.search(r'^Documentation = "(.+?)/?"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) + "/"


def page_name(path: Path) -> str:
    "Return the name of a notebook's page: its path below nbs/ without extension."
    return path.relative_to(NOTEBOOKS).with_suffix("").as_posix()


def top_of(path: Path) -> str:
    "Return the path from a notebook's page to the top folder of the site: empty, or ../ once per folder."
    return "../" * page_name(path).count("/")


def colab_url(name: str) -> str:
    "Return the address at which Colab opens a notebook of nbs/, such as course/01_tour."
    return repository_url().replace("https://github.com/", "https://colab.research.google.com/github/") + f"/blob/main/nbs/{name}.ipynb"


def lesson_paths() -> list[Path]:
    "Return the lessons in their order: every notebook of the course whose name begins with a number."
    return sorted(COURSE.glob("[0-9]*.ipynb"))


def course_paths() -> list[Path]:
    "Return the lessons, followed by the other notebooks of the course, such as the capstone."
    return [*lesson_paths(), *sorted(COURSE.glob("[!0-9]*.ipynb"))]


def colab_paths() -> list[Path]:
    "Return the notebooks that open in Colab: the course, and the large backbones on a GPU."
    return [*course_paths(), NOTEBOOKS / "teaching" / "gpu_comparison.ipynb"]


def library_paths() -> list[Path]:
    "Return the notebooks of the library: those at the top first, then each package."
    return sorted(LIBRARY.rglob("*.ipynb"), key=lambda path: (len(path.relative_to(LIBRARY).parts) > 1, path.relative_to(LIBRARY).parts))


def module_of(path: Path) -> Path | None:
    "Return the module that a notebook exports, or None."
    found = re.search(r"^#\|\s*default_exp\s+([\w.]+)", "\n".join(cell["source"] for cell in read_cells(path)), re.MULTILINE)
    return ROOT / "facekp" / f"{found.group(1).replace('.', '/')}.py" if found else None


def read_cells(path: Path) -> list[dict]:
    "Return a notebook's cells, each source as one string."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def title_of(path: Path) -> str:
    "Return the title of a notebook: its first heading."
    return re.search(r"^# (.+)$", read_cells(path)[0]["source"], re.MULTILINE).group(1)


def summary_of(path: Path) -> str:
    "Return a notebook's summary, the line that begins with `>`; empty if there is none."
    found = re.search(r"^> (.+)$", read_cells(path)[0]["source"], re.MULTILINE)
    return found.group(1) if found else ""


def short_title(path: Path) -> str:
    "Return a title that fits into the sidebar: number, and the words before the colon."
    number = path.stem.split("_")[0]
    title = title_of(path).split(":")[0].replace("`", "")
    return f"{int(number)} · {title}" if number.isdigit() else title


def alternative_text(source: str) -> str:
    "Return the alternative text of a cell's figure, its line `#| fig-alt:`; a figure without one is an error."
    written = FIGURE.search(source)
    if not written:
        raise ValueError(f"a figure has no line '#| fig-alt: ...': {source[:200]}")
    return written.group(1).strip()


def has_figure(cell: dict) -> bool:
    "Return whether a cell shows a figure."
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def box_as_list(markdown: str) -> str:
    "Return the text with a lesson's opening table (one row) as a definition list, which fits on a phone."
    def as_list(found: re.Match) -> str:
        terms, meanings = ([part.strip() for part in re.split(r"(?<!\\)\|", line)] for line in found.groups())
        return "\n".join(["```{container} box", *(f"{term}\n: {meaning}\n" for term, meaning in zip(terms, meanings, strict=True)), "```"])

    return BOX.sub(as_list, markdown)


def links_within_site(markdown: str, top: str) -> str:
    "Return the text with addresses of the site as relative links to the pages' sources; `top` is the path from the page to the top folder."
    def as_relative(found: re.Match) -> str:
        page, anchor = found.groups()
        ending = ".ipynb" if (NOTEBOOKS / f"{page}.ipynb").is_file() else ".md"
        return f"]({top}{page}{ending}{anchor})"

    return re.sub(rf"\]\({re.escape(site_url())}([\w/]+)\.html((?:#[^)]*)?)\)", as_relative, markdown)


def _page_cell(cell: dict, top: str) -> dict | None:
    "Return a cell as the page shows it; None if it is hidden."
    source, tags = cell["source"], cell["metadata"].get("tags", [])
    if cell["cell_type"] != "code":
        return cell | {"source": box_as_list(links_within_site(BADGES.sub("", source), top))}
    if re.search(r"^#\|\s*(hide|default_exp)\b", source, re.MULTILINE):
        return None
    shown = re.sub(r"^(?:#\||# @title).*\n?", "", source, flags=re.MULTILINE).strip("\n")
    hidden = "hide_input" in tags or re.search(r"#\|\s*echo:\s*false", source)
    metadata: dict = {"tags": ["remove-input"] if hidden else ["hide-input"] if set(FOLDED) & set(tags) else []}
    if has_figure(cell):
        metadata["mystnb"] = {"image": {"alt": alternative_text(source)}}
    return cell | {"source": shown, "metadata": metadata} if shown or cell["outputs"] else None


def page_cells(path: Path) -> list[dict]:
    "Return a notebook's cells as its page shows them."
    return [shown for cell in read_cells(path) if (shown := _page_cell(cell, top_of(path))) is not None]


def library_cells(path: Path) -> list[dict]:
    "Return the cells of a library notebook's page: an exported cell is folded after the reference entries of its definitions, and a heading without visible cells at the end is left out."
    from reference import cell_entries

    shown: list[dict] = []
    for cell in read_cells(path):
        exported = cell["cell_type"] == "code" and re.search(r"^#\|\s*export\b", cell["source"], re.MULTILINE)
        if exported:
            cell = cell | {"metadata": {"tags": ["hide-input"]}}
            entries = cell_entries(module_of(path), cell["source"])
            if entries:
                shown.append({"cell_type": "markdown", "id": f"{cell['id']}-api", "metadata": {}, "source": entries})
        page_cell = _page_cell(cell, top_of(path))
        if page_cell is not None:
            shown.append(page_cell)
    while shown and re.fullmatch(r"#+ [^\n]+\n?", shown[-1]["source"]):  # the cells under it are hidden tests
        shown.pop()
    return shown


def buttons(path: Path) -> dict:
    "Return the cell with a notebook's buttons: Colab, download, and the slides of a lesson."
    name = page_name(path)
    top = top_of(path)
    slides = f'\n<a class="button quiet" href="{top}slides/{path.stem}.html">Slides</a>' if path in lesson_paths() else ""
    source = (f'<p class="buttons"><a class="button" href="{colab_url(name)}">Open in Colab</a>\n'
              f'<a class="button quiet" href="{top}notebooks/{name}.ipynb" download>Download</a>{slides}</p>')
    return {"cell_type": "markdown", "id": "buttons", "metadata": {}, "source": source}


def write_notebook(path: Path, cells: list[dict]) -> None:
    "Write cells as a notebook."
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")


def write_page(path: Path, folder: Path) -> None:
    "Write a notebook's page under its name."
    cells = library_cells(path) if LIBRARY in path.parents else page_cells(path)
    write_notebook(folder / f"{page_name(path)}.ipynb", [cells[0], buttons(path), *cells[1:]])


def page_about(ending: str, library: str) -> str:
    "Return the page name of the lesson whose file name has this ending, or of a library notebook if there is none."
    return next((page_name(path) for path in lesson_paths() if path.stem.endswith(ending)), library)
