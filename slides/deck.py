"Build the slides of the talk and of each unit: HTML files that open without internet, and a PDF of each; numbers and figures come from records and lessons."

import argparse
import base64
import csv
import functools
import importlib.util
import io
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from browser import find_browser
from lessons import lesson_paths, repository_url, short_title
from mathml import font_data
from modelcard import shipped_sentence
from tables import MAIN, MODELS, RANDOM_GAPS, WITH_FRAMES, best_rows, counts, read_table

from facekp.experiments.measurement import read_measurement
from facekp.experiments.results import read_study

STRATEGIES = {"complete": "noNA", "ffill": "forward fill", "knn": "KNN", "masked": "masked loss"}


@functools.cache
def picture(name: str, alternative: str, part: tuple[float, float, float, float] = (0, 0, 1, 1)) -> str:
    "Return a picture of photos/, embedded; `part` is what is shown: left, top, right and bottom as shares of its width and height."
    from PIL import Image

    whole = Image.open(ROOT / "photos" / name)
    shown = whole.crop([round(share * side) for share, side in zip(part, whole.size * 2)])
    data = io.BytesIO()
    shown.save(data, "PNG")
    return f'<img alt="{alternative}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def figure(name: str, heading: str, **options: Any) -> str:
    "Return a figure of a lesson, such as 08_cnn, from the section whose heading has these words."
    from unit import Lesson

    return Lesson(next(path for path in lesson_paths() if path.stem == name)).figure(heading, **options)


def cell(model: str, labels: str, copies: int) -> dict:
    "Return one row of the main comparison."
    return next(row for row in read_table(MAIN) if (row["model"], row["labels"], int(row["augment"])) == (model, labels, copies))


def cells(model: str, copies: int) -> list[dict]:
    "Return the rows of a model, worst label strategy first."
    rows = [row for row in read_table(MAIN) if row["model"] == model and int(row["augment"]) == copies]
    return sorted(rows, key=lambda row: -float(row["rmse"]))


@functools.cache
def best(model: str = "") -> dict:
    "Return the row of a model that was best on the validation set, or of the model whose row has the smallest error."
    return next(row for row in best_rows(MAIN) if row["model"] == model or not model)


def feature_level_errors() -> list[dict]:
    "Return the errors of frozen MobileNetV2 by feature map, worst first: mean over seeds, and number of seeds."
    names = {"imagenet-12x12": "12x12 map", "imagenet-6x6": "6x6 map", "imagenet-3x3": "3x3 map, the last", "random-12x12": "random, 12x12 map"}
    rows, transfer = [], read_study(ROOT / "results" / "transfer").runs
    for place, name in names.items():
        errors = transfer.rmse[transfer.index.str.startswith(f"frozen-{place}-seed")]
        rows.append({"labels": name, "rmse": errors.mean(), "seeds": len(errors)})
    return sorted(rows, key=lambda row: -row["rmse"])


def bars(rows: list[dict], label: str = "labels") -> str:
    "Return errors as a bar chart."
    widest = max(float(row["rmse"]) for row in rows)
    lines = [f'<tr><th scope="row">{ {**MODELS, **STRATEGIES}.get(row[label], row[label])}</th>'
             f'<td class="bar"><span style="width:{float(row["rmse"]) / widest:.0%}"></span></td>'
             f'<td class="number">{float(row["rmse"]):.2f} px</td></tr>' for row in rows]
    return '<table class="bars"><tbody>' + "".join(lines) + "</tbody></table>"


def count_verdicts(question: str, file: Path = MAIN / "planned.csv") -> dict[str, int]:
    "Return how often each verdict was reached, for trained networks."
    with open(file, newline="", encoding="utf-8") as rows:
        found = [row["verdict"] for row in csv.DictReader(rows) if row["question"] == question and row.get("model") != "mean"]
    return {verdict: found.count(verdict) for verdict in ("lower", "no difference seen", "higher") if verdict in found}


def verdicts(question: str) -> str:
    "Return the counted verdicts on a planned question as words."
    return ", ".join(f"{verdict} in {count}" for verdict, count in count_verdicts(question).items())


def verdict_bar(question: str, folder: Path) -> str:
    "Return the counted verdicts of a comparison with gaps in random rows as a bar."
    looks = {"lower": "lower", "no difference seen": "none", "higher": "higher"}
    parts = [f'<span class="{looks[verdict]}" style="flex:{count}"><b>{count}</b>{verdict.removesuffix(" seen")}</span>'
             for verdict, count in count_verdicts(question, folder / "comparisons.csv").items()]
    return '<div class="verdicts">' + "".join(parts) + "</div>"


def record(name: str) -> dict:
    "Return a JSON record of results/."
    return read_measurement(ROOT / "results" / f"{name}.json")


def run(study: str, name: str) -> dict:
    "Return one run of a study as a dictionary."
    return read_study(ROOT / "results" / study).runs.loc[name].to_dict()


def _sizes(folder: Path) -> dict:
    "Return the sizes of a comparison's training, validation and test sets."
    data = counts(folder)
    sizes = {"train": data["n_train"], "validation": data["n_validation"], "test": data["n_test"]}
    return sizes | {"total": sum(sizes.values())}


def facts() -> dict:
    "Return the names that the text of the talk may use."
    labels = record("audit/kaggle_labels")
    rows = best_rows(MAIN)
    return {"picture": picture, "figure": figure, "cell": cell, "cells": cells, "best": best, "bars": bars, "verdicts": verdicts, "verdict_bar": verdict_bar, "names": MODELS, "strategies": {**STRATEGIES, "ridge": "ridge"}, "labels": labels,
            "moved": {source["keypoint"]: source["moved"] for source in labels["sources"]},
            "imputed": {name: values["mean"] for name, values in record("kaggle_labels/imputers")["rmse"].items()},
            "accuracy": record("kaggle_labels/accuracy"), "main": _sizes(MAIN), "random_gaps": RANDOM_GAPS, "with_frames": WITH_FRAMES, "sizes": _sizes,
            "feature_levels": feature_level_errors(), "record": record, "run": run, "repository": repository_url(), "best_of_each": rows[::-1], "shipped": shipped_sentence()}


def split_slides(text: str) -> list[tuple[str, str, str]]:
    "Return class, text and speaker's notes of slides that are separated by lines of three dashes."
    found = []
    for part in re.split(r"^---$", text, flags=re.MULTILINE):
        kind, part = re.fullmatch(r"\s*(?:class: ([\w ]+)\n)?(.*)", part, re.DOTALL).groups()
        shown, _, note = part.partition("\nNote:\n")
        if shown.strip():
            found.append((kind or "", shown.strip(), " ".join(note.split())))
    return found


def slides() -> list[tuple[str, str, str]]:
    "Return class, text and speaker's notes of each slide of the talk, numbers filled in."
    from jinja2 import Environment, StrictUndefined

    source = re.sub(r"<!--.*?-->\s*", "", (HERE / "deck.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return split_slides(Environment(undefined=StrictUndefined).from_string(source).render(facts()))


def list_decks() -> dict[str, tuple[str, Callable[[], list[tuple[str, str, str]]]]]:
    "Return each deck's file name without extension, its title, and the function that makes its slides; the talk is `index`."
    from unit import unit_slides

    units = {path.stem: (f"Unit {short_title(path).replace(' ·', ':')}", partial(unit_slides, path.stem)) for path in lesson_paths()}
    return {"index": ("facekp: from missing labels to honest numbers", slides), **units}


def reveal_folder() -> Path:
    "Return the folder of reveal.js, which is part of the package sphinx-revealjs."
    return Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"


@functools.cache
def math_style() -> str:
    "Return the style with the font of formulas."
    data = base64.b64encode(font_data() or b"").decode()
    return f'@font-face {{ font-family: "STIX Two Math"; src: url(data:font/woff;base64,{data}) format("woff"); }}\nmath {{ font-family: "STIX Two Math", math; }}'


def deck_html(title: str, shown_slides: list[tuple[str, str, str]]) -> str:
    "Return a complete deck as one page."
    from latex2mathml.converter import convert
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    markdown, reveal = MarkdownIt("commonmark", {"html": True}).enable("table"), reveal_folder()
    markdown.use(dollarmath_plugin, renderer=lambda formula, options: convert(formula, display="block" if options["display_mode"] else "inline"), double_inline=True)
    sections = ""
    for kind, shown, note in shown_slides:
        head, _, body = shown.partition("\n")
        look = f' class="{kind}"' if kind else ""
        sections += (f'<section{look}>\n<div class="slide">\n{markdown.render(head)}<div class="body">\n{markdown.render(body)}</div>\n</div>\n'
                     f'<aside class="notes">{markdown.render(note)}</aside>\n</section>\n')
    styles, scripts = ("\n".join(path.read_text(encoding="utf-8").replace("</script", "<\\/script") for path in paths) for paths in (
        (reveal / "dist" / "reset.css", reveal / "dist" / "reveal.css", HERE / "deck.css"), (reveal / "dist" / "reveal.js", reveal / "plugin" / "notes" / "notes.js")))
    styles += math_style() if "<math" in sections else ""
    start = ("Reveal.initialize({width: 1280, height: 720, margin: 0, center: false, hash: true, slideNumber: 'c/t', transition: 'none', "
             "pdfSeparateFragments: false, plugins: [RevealNotes]});")
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{styles}</style>\n</head>\n'
            f'<body>\n<div class="reveal"><div class="slides">\n'
            f"{sections}</div></div>\n<script>{scripts}</script>\n<script>{start}</script>\n</body>\n</html>\n")


def write_decks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    "Write the decks, or those that are named."
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (title, make) in list_decks().items():
        if not only or name in only:
            paths.append(folder / f"{name}.html")
            paths[-1].write_text(deck_html(title, make()), encoding="utf-8")
    return paths


def write_pdfs(decks: Sequence[Path], browser: str) -> list[Path]:
    "Print each deck to a PDF in its folder; the talk's is named facekp.pdf."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser)
        written = []
        for deck in decks:
            page = chromium.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"{deck.resolve().as_uri()}?print-pdf")
            page.wait_for_selector(".reveal.ready .pdf-page", state="attached", timeout=60_000)
            written.append(deck.with_name("facekp.pdf" if deck.stem == "index" else f"{deck.stem}.pdf"))
            page.pdf(path=written[-1], prefer_css_page_size=True, print_background=True)
            page.close()
        chromium.close()
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("decks", nargs="*", help="decks to build, such as 08_cnn, or index for the talk (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "_docs" / "slides", help="folder for the decks")
    options = parser.parse_args()
    if unknown := set(options.decks) - set(list_decks()):
        parser.error(f"no deck is called {', '.join(sorted(unknown))}; there are {', '.join(list_decks())}")
    decks = write_decks(options.out, options.decks)
    print(f"{len(decks)} decks in {options.out}")
    browser = find_browser()
    if browser is None or importlib.util.find_spec("playwright") is None:
        print("no PDF: Chromium prints it, and none was found; set FACEKP_BROWSER to its path, or open a deck with ?print-pdf and print it")
        return 1
    print(f"{len(write_pdfs(decks, browser))} PDFs in the same folder")
    return 0


if __name__ == "__main__":
    sys.exit(main())
