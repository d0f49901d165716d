"Build the site: pages from the notebooks, the package and the records into _proc/, HTML from them into _docs/."

import argparse
import re
import shutil
import sys
from pathlib import Path

from hero import WORDS, write_hero
from lessons import NOTEBOOKS, ROOT, lesson_paths, page_cells, read_cells, short_title, summary_of, write_lesson, write_notebook
from modelcard import card_page, shipped_sentence
from reference import exported_names, module_summary, reference_page
from reliability_page import reliability_page, reliability_records
from tables import FULL, MAIN, best_bars, comparison_page, counts
from tryit import has_runtime, write_try

HERE = Path(__file__).parent


def lesson_of(module: str) -> Path | None:
    "The lesson that a module is exported from."
    return next((path for path in lesson_paths() if path.stem.split("_", 1)[1] == module), None)


def modules() -> list[Path]:
    "The package's modules in the order of their lessons."
    found = [ROOT / "facekp" / f"{path.stem.split('_', 1)[1]}.py" for path in lesson_paths()]
    return [path for path in found if path.exists() and exported_names(path)]


def results_cells() -> list[dict]:
    "What the index notebook found: everything from that heading up to the lessons."
    index = NOTEBOOKS / "index.ipynb"
    cells, kept, inside = page_cells(index), [], False
    for cell in cells:
        text = cell["source"]
        if cell["cell_type"] == "markdown" and "## What we found" in text:
            text, inside = "# What we found" + text.split("## What we found", 1)[1], True
        stop = "## The lessons" in text and cell["cell_type"] == "markdown"
        if inside:
            text = text.split("## The lessons")[0] if stop else text
            kept.append(cell | {"source": text.replace("(../photos/", "(photos/")})
        if stop:
            break
    return kept


def three_lines() -> str:
    "The first three lines to try it, from the index notebook; what follows a # behind a command is left out."
    block = next(re.search(r"```\n(.+?)```", cell["source"], re.DOTALL) for cell in read_cells(NOTEBOOKS / "index.ipynb") if "```" in cell["source"])
    return "\n".join(re.sub(r"\s+# .*", "", line) for line in block.group(1).splitlines()[:3])


def extra_pages() -> list[str]:
    "Pages that exist only where what they show does."
    return (["slides"] if (ROOT / "slides" / "deck.md").exists() else []) + ["contributing"]


def model_pages() -> list[str]:
    "The pages on the model that is shipped; those that exist."
    return ["try"] * has_runtime() + ["model"] + ["reliability"] * bool(reliability_records())


def start_page(static: Path) -> str:
    "The start page: in one screen what this is, how to try it, what came out; below it the lessons. Its picture goes into `static`."
    width, height = write_hero(static / "faces.png")
    about = read_cells(NOTEBOOKS / "index.ipynb")[0]["source"]
    summary = re.search(r"^> (.+)$", about, re.MULTILINE).group(1)
    lessons = lesson_paths()
    cards = "\n".join(f'<li><a href="lessons/{path.stem}.html"><b>{short_title(path)}</b><span>{re.sub(r"[*`]", "", summary_of(path))}</span></a></li>'
                      for path in lessons)
    contents = {"The model": model_pages(), "Results": ["results", "comparison"], "Lessons": [f"{short_title(path)} <lessons/{path.stem}>" for path in lessons],
                "More": ["reference/index", *extra_pages()]}
    trees = "\n".join("\n".join(["```{toctree}", ":hidden:", f":caption: {name}", *entries, "```", ""]) for name, entries in contents.items())
    shipped = shipped_sentence() and f"{shipped_sentence()}, see its [model card](model.md).\n"
    more = {"try": "Try it", "slides": "Slides"}
    deck = "\n".join(f'<a class="button quiet" href="{name}.html">{title}</a>' for name, title in more.items() if name in [*model_pages(), *extra_pages()])
    return f"""# facekp

<div class="hero">
<div>
<p class="lead">{summary}</p>

```bash
{three_lines()}
```

<p class="buttons"><a class="button" href="lessons/{lessons[0].stem}.html">Start with lesson 0</a>
<a class="button quiet" href="comparison.html">Results</a>
{deck}</p>
</div>
<img src="_static/faces.png" alt="{WORDS}" width="{width}" height="{height}">
</div>

<div class="found">

**Error of each model** on {counts(FULL / MAIN)['n_test']} held-out real faces: RMSE in pixels of 96x96, with the label repair that was
best on validation faces.

{best_bars(FULL / MAIN)}

{shipped}
</div>

A graduate team once predicted fifteen facial keypoints on Kaggle's faces, more than half of which lack labels, and reported "95% accuracy".
This course takes that project apart, step by step, in notebooks that you can read, run and change. [What we found](results.ipynb) says what
each step really brings.

## The lessons

<ol class="cards" start="0">
{cards}
</ol>

{trees}
"""


def reference_index() -> str:
    "The page that lists the modules and what each exports."
    lines = ["# Reference", "", "What `facekp` exports, module by module. Coordinates are pixels of a 96x96 picture, x to the right, y downwards, the middle of the",
             "first pixel is 0; `points` are float32 of shape N x 15 x 2, and NaN is a missing label.", ""]
    for path in modules():
        names = ", ".join(f"[`{name}`](#facekp.{path.stem}.{name})" for name in exported_names(path) if not name.isupper())
        lines += [f"## [facekp.{path.stem}]({path.stem}.md)", "", module_summary(path), "", names, ""]
    return "\n".join([*lines, "```{toctree}", ":hidden:", *(f"facekp.{path.stem} <{path.stem}>" for path in modules()), "```", ""])


def write_pages(pages: Path, only: list[str] | None = None) -> None:
    "Write every page's source; `only` names the lessons to build, for a quick look."
    shutil.rmtree(pages, ignore_errors=True)
    (pages / "reference").mkdir(parents=True)
    shutil.copytree(ROOT / "photos", pages / "photos")
    shutil.copytree(HERE / "static", pages / "static")
    for path in lesson_paths():
        if not only or path.stem in only:
            write_lesson(path, pages / "lessons")
    write_notebook(pages / "results.ipynb", results_cells())
    texts = {"index": start_page(pages / "static"), "comparison": comparison_page(), "reference/index": reference_index(),
             **{f"reference/{path.stem}": reference_page(path, lesson_of(path.stem)) for path in modules()},
             "model": card_page(), **({"try": write_try(pages / "static")} if "try" in model_pages() else {}),
             **({"reliability": reliability_page()} if "reliability" in model_pages() else {}),
             **{name: (HERE / f"{name}.md").read_text(encoding="utf-8") for name in extra_pages()}}
    for name, text in texts.items():
        (pages / f"{name}.md").write_text(text, encoding="utf-8")
    (pages / "extra" / "notebooks").mkdir(parents=True)
    for path in lesson_paths():
        shutil.copy(path, pages / "extra" / "notebooks")
    if "slides" in extra_pages():
        sys.path.insert(0, str(ROOT / "slides"))
        from deck import write_deck

        write_deck(pages / "extra" / "slides" / "index.html")


def build(pages: Path, site: Path, only: list[str] | None = None) -> int:
    "Write the pages and have Sphinx make the site of them; a warning is an error. 0 where all went well."
    from sphinx.cmd.build import main as sphinx

    pages = pages.resolve()
    write_pages(pages, only)
    shutil.rmtree(site, ignore_errors=True)
    strict = [] if only else ["--fail-on-warning", "--keep-going"]
    paths = ["-D", f"html_static_path={pages / 'static'}", "-D", f"html_extra_path={pages / 'extra'}"]
    made = pages / "html"  # myst-nb leaves a folder beside what it makes, so it is made among the pages
    failed = sphinx(["-q", *strict, "-b", "html", "-c", str(HERE), "-d", str(pages / ".doctrees"), *paths, str(pages), str(made)])
    if made.exists():
        shutil.move(made, site)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="lessons to build, for a quick look at a page")
    parser.add_argument("--pages", type=Path, default=ROOT / "_proc", help="folder for the pages' sources")
    parser.add_argument("--site", type=Path, default=ROOT / "_docs", help="folder for the site")
    options = parser.parse_args()
    return build(options.pages, options.site, options.only)


if __name__ == "__main__":
    sys.exit(main())
