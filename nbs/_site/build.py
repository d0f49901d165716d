"Build the site: pages from notebooks, package and records in _proc/, HTML in _docs/."

import argparse
import re
import shutil
import sys
from pathlib import Path

from claims import claims_page
from front import course_hours, course_sentence, reader_minutes
from hero import WORDS, write_hero
from lessons import (
    NOTEBOOKS,
    ROOT,
    course_paths,
    lesson_paths,
    library_paths,
    module_of,
    page_cells,
    page_name,
    read_cells,
    repository_url,
    short_title,
    summary_of,
    write_notebook,
    write_page,
)
from modelcard import card_page, shipped_sentence
from prediction_page import prediction_page, prediction_records
from reference import exported_names, module_name, module_summary, reference_page
from reliability_page import reliability_page, reliability_records
from tables import MAIN, best_bars, comparison_page, counts, text_table
from tryit import has_runtime, write_try

HERE = Path(__file__).parent
TEACHING = NOTEBOOKS / "teaching"


def module_pages() -> dict[Path, str]:
    "Return each module with its page below library/: the page of its library notebook, or a separate one if a lesson exports the module."
    found = {}
    for path in [*library_paths(), *lesson_paths()]:
        module = module_of(path)
        if module is not None and module.exists() and exported_names(module):
            found[module] = module.relative_to(ROOT / "facekp").with_suffix("").as_posix()
    return dict(sorted(found.items(), key=lambda pair: ("/" in pair[1], pair[1])))


def lesson_modules() -> dict[Path, Path]:
    "Return the modules that lessons export, each with its lesson."
    return {module: path for path in lesson_paths() if (module := module_of(path)) is not None and module.exists() and exported_names(module)}


def first_lines() -> str:
    "Return the lines of the index notebook that install the package and find a first face."
    block = next(re.search(r"```\n(.+?)```", cell["source"], re.DOTALL) for cell in read_cells(NOTEBOOKS / "index.ipynb") if "```" in cell["source"])
    return "\n".join(block.group(1).strip().splitlines()[:2])


def teaching_paths() -> list[Path]:
    "Return the pages for teachers, in the order of the sidebar."
    return [TEACHING / name for name in ("syllabus.md", "teacher_notes.md", "known_results.ipynb", "gpu_comparison.ipynb", "glossary.md", "datasheets.md")]


def teaching_index() -> str:
    "Return the page that a teacher opens first."
    return f"""# For teachers

The course has {len(lesson_paths())} units of about an hour each, {course_hours()} hours in all, and a capstone. It needs no account, no GPU and no photographs: students start in Colab with synthetic faces.

- [Syllabus](syllabus.md): five sessions of 90 minutes, or ten weeks.
- [Teacher's notes](teacher_notes.md): aim, timing, questions for discussion and common mistakes of every unit.
- [Known results](known_results.ipynb): reference numbers for your runs.
- [The large backbones on a GPU](gpu_comparison.ipynb): ResNet50 and EfficientNetB7 from ImageNet weights, in Colab.
- [Glossary](glossary.md): the terms of the course, each with the unit that introduces it.
- [Datasheets](datasheets.md): origin, labels, terms and flaws of every data set.
- [Capstone](../course/capstone.ipynb): a project brief with a rubric of 100 points and a worked example.
- [Slides](../slides.md): a short deck per unit, and a talk of 20 minutes.

Solutions to the exercises are in separate notebooks, in [`nbs/course/solutions`]({repository_url()}/tree/main/nbs/course/solutions). The tests of the repository run them.

```{{toctree}}
:hidden:
{chr(10).join(path.stem for path in teaching_paths())}
```
"""


def slides_page() -> str:
    "Return the page that lists the decks of the units and of the talk."
    rows = [(f"[{short_title(path)}]({page_name(path)}.ipynb)", f'<a href="slides/{path.stem}.html">slides</a>', f'<a href="slides/{path.stem}.html?print-pdf">print view</a>') for path in lesson_paths()]
    return (HERE / "slides.md").read_text(encoding="utf-8").replace("<!-- units -->", text_table(rows, ("unit", "", "")))


def extra_pages() -> list[str]:
    "Return the existing further pages."
    return (["slides"] if (ROOT / "slides" / "deck.md").exists() else []) + ["contributing"]


def model_pages() -> list[str]:
    "Return the existing pages on the shipped model."
    return ["try"] * has_runtime() + ["model"] + ["prediction"] * bool(prediction_records()) + ["reliability"] * bool(reliability_records())


def start_page(static: Path) -> str:
    "Return the start page (summary, installation, results, lessons), and write its image into `static`."
    width, height = write_hero(static / "faces.png")
    about = read_cells(NOTEBOOKS / "index.ipynb")[0]["source"]
    summary = re.search(r"^> (.+)$", about, re.MULTILINE).group(1)
    lessons = lesson_paths()
    cards = "\n".join(f'<li><a href="{page_name(path)}.html"><b>{short_title(path)}</b><span>{re.sub(r"[*`]", "", summary_of(path))}</span>'
                      f'<small>{reader_minutes(read_cells(path)[0]["source"])} minutes</small></a></li>'
                      for path in lessons)
    contents = {"Course": [f"{short_title(path)} <{page_name(path)}>" for path in course_paths()], "Library": ["library/index"], "Model": model_pages(),
                "Results": ["results", "comparison", "claims"], "For teachers": ["teaching/index"], "More": extra_pages()}
    trees = "\n".join("\n".join(["```{toctree}", ":hidden:", f":caption: {name}", *entries, "```", ""]) for name, entries in contents.items())
    shipped = shipped_sentence() and f"{shipped_sentence()} ([model card](model.md)).\n"
    use, use_title = next((name, title) for name, title in (("try", "try it in the browser"), ("model", "model card")) if name in model_pages())
    return f"""# facekp

<div class="hero">
<div>
<p class="lead">{summary}</p>

```bash
{first_lines()}
```

<p class="buttons"><a class="button" href="{page_name(lessons[0])}.html">Learn: unit 1</a>
<a class="button" href="{use}.html">Use: {use_title}</a>
<a class="button" href="teaching/index.html">Teach: syllabus and notes</a></p>
</div>
<img src="_static/faces.png" alt="{WORDS}" width="{width}" height="{height}">
</div>

<div class="found">

**Error of each model** on {counts(MAIN)['n_test']} real test faces: RMSE in pixels of 96x96, with the label strategy and augmentation that
were best on the validation set.

{best_bars(MAIN)}

{shipped}
</div>

A graduate team once predicted fifteen facial keypoints on Kaggle's faces, more than half of which lack some labels, and reported "95% accuracy".
This course repeats that project step by step, in notebooks that you can read, run and change, and measures what each step is worth. [What was found](results.ipynb).

## The course

{course_sentence()} A [capstone](course/capstone.ipynb) follows.

<ol class="cards">
{cards}
</ol>

{trees}
"""


def library_index() -> str:
    "Return the page that lists the modules and what each exports."
    lines = ["# Library", "", "One page per module of `facekp`: what it is for, an example, the reference and the code. Coordinates are pixels of a 96x96 image, x to the",
             "right, y down, the centre of the first pixel is 0; `points` are float32 of shape N x 15 x 2, and NaN is a missing label.", ""]
    package, of_lessons = "", lesson_modules()
    for module, page in module_pages().items():
        folder = page.rpartition("/")[0]
        if folder != package:
            package = folder
            lines += [f"## facekp.{folder.replace('/', '.')}", ""]
        names = ", ".join(f"{{py:obj}}`{name} <{module_name(module)}.{name}>`" for name in exported_names(module) if not name.isupper())
        ending = ".md" if module in of_lessons else ".ipynb"
        lines += [f"**[{module_name(module)}]({page}{ending})**. {module_summary(module)}", "", *([names, ""] if names else [])]
    return "\n".join([*lines, "```{toctree}", ":hidden:", *(f"{module_name(module)} <{page}>" for module, page in module_pages().items()), "```", ""])


def contributing_page() -> str:
    "Return CONTRIBUTING.md with links to files of the repository."
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", rf"]({repository_url()}/blob/main/\1)", text)


def write_pages(pages: Path, only: list[str] | None = None) -> None:
    "Write every page's source; `only` names the notebooks to build, such as course/01_tour, for a quick look."
    shutil.rmtree(pages, ignore_errors=True)
    (pages / "library").mkdir(parents=True)
    shutil.copytree(ROOT / "photos", pages / "photos")
    shutil.copytree(HERE / "static", pages / "static")
    for path in [*course_paths(), *library_paths()]:
        if not only or page_name(path) in only:
            write_page(path, pages)
    cells = [cell | {"source": cell["source"].replace("(../photos/", "(photos/")} for cell in page_cells(NOTEBOOKS / "results.ipynb")]
    write_notebook(pages / "results.ipynb", cells)
    (pages / "teaching").mkdir()
    for path in teaching_paths():
        if path.suffix == ".md":
            shutil.copy(path, pages / "teaching" / path.name)
        else:
            write_notebook(pages / "teaching" / path.name, page_cells(path))
    texts = {"index": start_page(pages / "static"), "comparison": comparison_page(), "claims": claims_page(), "library/index": library_index(), "contributing": contributing_page(), "teaching/index": teaching_index(),
             **{f"library/{module_pages()[module]}": reference_page(module, "../" * (module_pages()[module].count("/") + 1) + f"{page_name(lesson)}.ipynb")
                for module, lesson in lesson_modules().items()},
             "model": card_page(), **({"try": write_try(pages / "static")} if "try" in model_pages() else {}),
             **({"prediction": prediction_page()} if "prediction" in model_pages() else {}),
             **({"reliability": reliability_page()} if "reliability" in model_pages() else {}),
             **({"slides": slides_page()} if "slides" in extra_pages() else {})}
    for name, text in texts.items():
        (pages / f"{name}.md").parent.mkdir(parents=True, exist_ok=True)
        (pages / f"{name}.md").write_text(text, encoding="utf-8")
    for path in [*course_paths(), *library_paths()]:
        copy = pages / "extra" / "notebooks" / path.relative_to(NOTEBOOKS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    if "slides" in extra_pages():
        sys.path.insert(0, str(ROOT / "slides"))
        from deck import write_decks

        write_decks(pages / "extra" / "slides")


def build(pages: Path, site: Path, only: list[str] | None = None) -> int:
    "Write the pages, build the site with Sphinx (a warning is an error), and return 0 on success."
    from sphinx.cmd.build import main as sphinx

    pages = pages.resolve()
    write_pages(pages, only)
    shutil.rmtree(site, ignore_errors=True)
    strict = [] if only else ["--fail-on-warning", "--keep-going"]
    paths = ["-D", f"html_static_path={pages / 'static'}", "-D", f"html_extra_path={pages / 'extra'}"]
    made = pages / "html"  # myst-nb leaves a folder beside its output, so the output is built inside the folder of pages
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
