"The slides: numbers and figures come from records and lessons, each deck is one file, and no content is cut off, tiny, missing or too long."

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "slides"))

pytestmark = pytest.mark.skipif(not all(map(importlib.util.find_spec, ("jinja2", "markdown_it", "sphinx_revealjs"))), reason="the `docs` extra is not installed")

import deck
import unit
from lessons import NOTEBOOKS, lesson_paths

SOURCE = (ROOT / "slides" / "deck.md").read_text(encoding="utf-8")
# numbers that we did not measure: the size of an image and of a last feature map, the project's own claims, and a deliberate shift of points
GIVEN = {"96", "83", "95", "0.6", "3", "20"}


def test_every_measured_number_is_filled_in_from_a_record():
    written = re.sub(r"<!--.*?-->|\{\{.*?\}\}|\{%.*?%\}", "", SOURCE, flags=re.DOTALL)
    numbers = set(re.findall(r"\d+(?:[.,]\d+)*", written))
    assert numbers <= GIVEN, f"fill these in from results/: {numbers - GIVEN}"


def test_the_pictures_of_the_talk_exist_and_have_alternative_text():
    pictures = re.findall(r'picture\("(.+?)", "(.+?)"(?:, \(.+?\))?\)', SOURCE)
    assert len(pictures) == SOURCE.count("picture(") and pictures and SOURCE.count("figure(") >= 5
    for name, alternative in pictures:
        assert (ROOT / "photos" / name).is_file() and alternative.strip(), name


def test_statements_of_the_slides_hold_for_the_records():
    error = {row["labels"]: float(row["rmse"]) for row in deck.cells("cnn", 0)}
    assert error["complete"] < min(error["ffill"], error["knn"], error["ridge"])
    assert set(deck.count_verdicts("noNA against forward fill")) == {"lower"} and "higher" not in deck.count_verdicts("noNA against KNN")
    random_gaps = deck.count_verdicts("complete against knn", deck.RANDOM_GAPS / "comparisons.csv")
    assert random_gaps["higher"] > sum(random_gaps.values()) / 2 and random_gaps.get("lower", 0) <= 1
    few, more = (deck.count_verdicts("augmented against not", folder / "comparisons.csv") for folder in (deck.RANDOM_GAPS, deck.WITH_FRAMES))
    assert few["lower"] > sum(few.values()) / 2 and more["higher"] > sum(more.values()) / 2
    assert 0.7 < float(deck.best("mean")["rmse"]) - float(deck.best("baseline")["rmse"]) < 1.3
    assert float(deck.best("heatmap")["rmse"]) < float(deck.best("cnn")["rmse"]) and int(deck.best("heatmap")["parameters"]) < int(deck.best("cnn")["parameters"])
    places = {row["labels"].split(",")[0]: row["rmse"] for row in deck.feature_level_errors()}
    assert list(places.values()) == sorted(places.values(), reverse=True) and places["3x3 map"] > places["6x6 map"] > places["12x12 map"]
    assert places["random"] > places["12x12 map"] + 1 and len({row["seeds"] for row in deck.feature_level_errors()}) == 1
    filled = deck.facts()["imputed"]
    assert filled["ffill"] > filled["mean"] > filled["knn"] > filled["ridge"]


def all_slides():
    return {name: make() for name, (_, make) in deck.list_decks().items()}


def test_every_unit_has_a_deck():
    assert {path.stem for path in unit.OUTLINES.glob("*.md")} == {path.stem for path in lesson_paths()}
    decks = all_slides()
    assert decks.keys() == {"index", *(path.stem for path in lesson_paths())} and all(decks.values())


def test_every_slide_has_a_heading_and_notes():
    for name, slides in all_slides().items():
        for _, shown, note in slides:
            assert shown.startswith("# ") and shown.count("\n") and note, f"{name}: {shown[:60]}"


@pytest.mark.parametrize("name", [path.stem for path in lesson_paths()])
def test_numbers_of_an_outline_are_in_its_lesson(name):
    written = re.sub(r"\{\{.*?\}\}|<div.*?>", "", (unit.OUTLINES / f"{name}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lesson = (NOTEBOOKS / "course" / f"{name}.ipynb").read_text(encoding="utf-8")
    missing = [number for number in re.findall(r"\d+(?:[.,]\d+)*", written) if not re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", lesson)]
    assert not missing, f"slides/units/{name}.md has numbers that its lesson lacks: {missing}"


def test_a_deck_has_a_figure_and_a_question_of_its_lesson():
    for name, slides in all_slides().items():
        shown = "\n".join(text for _, text, _ in slides)
        assert name == "index" or (shown.count('<img class="figure"') >= 1 and shown.count("fragment answer") == 1), name


LESSON = {"cells": [
    {"cell_type": "markdown", "source": "# A title\n\n> A promise.\n\n- do this;\n- do\n  that.\n\n| Prerequisites | Reader time |\n|---|---|\n| [unit 1](a.ipynb) | 20 minutes and 5 minutes |"},
    {"cell_type": "markdown", "source": "## 1. Heading\n\nBefore it.\n\n> **Quiz.** Why is it\n> 7?\n> <details><summary>Answer</summary>7. It *is*.</details>"},
    {"cell_type": "code", "source": "x = keras.layers.A()\n", "outputs": [{"output_type": "stream", "text": "1.5 px\n2 < 3\n"}, {"output_type": "display_data", "data": {
        "text/html": '<style>a</style><table border="1">\n  <thead>\n    <tr><th></th><th>px</th></tr>\n    <tr><th>row</th><th></th></tr>\n  </thead><tbody><tr><th>a</th><td>1</td></tr></tbody></table>'}}]},
    {"cell_type": "markdown", "source": "Dr. No said 1.5 px. The *second* sentence. A third.\n\n- item. End.\n\n## Take-aways\n\n- One.\n- Two."}]}


@pytest.fixture
def lesson(tmp_path):
    path = tmp_path / "01_sample.ipynb"
    path.write_text(json.dumps(LESSON))
    return unit.Lesson(path)


def test_a_lesson_gives_its_parts(lesson):
    assert (lesson.title, lesson.promise, lesson.minutes, lesson.needs) == ("A title", "A promise.", 25, "unit 1")
    assert lesson.goals == ["do this;", "do that."] and lesson.takeaways == ["One.", "Two."]
    assert lesson.say("The *second*") == "The *second* sentence." and lesson.say("item", 2) == "Item. End."
    assert lesson.printed("Heading") == '<pre class="printed">1.5 px\n2 &lt; 3</pre>' and lesson.printed("Heading", lines=1).count("\n") == 0
    assert lesson.table("Heading") == '<table class="printed"><thead><tr><th>row</th><th>px</th></tr></thead><tbody><tr><th>a</th><td>1</td></tr></tbody></table>'
    assert lesson.quiz(1).startswith("Why is it 7?\n") and "\n7\\. It *is*.\n" in lesson.quiz(1)
    assert re.sub("<[^>]+>", "", lesson.code("x = ", 1)) == "x = layers.A()"
    assert lesson.used == [2, 2, 2, 2] and lesson.paragraph_about(2).startswith("Dr. No said")


@pytest.mark.parametrize("ask", [lambda lesson: lesson.figure("Heading"), lambda lesson: lesson.printed("Heading", 2), lambda lesson: lesson.say("Nobody"), lambda lesson: lesson.quiz(2),
                                 lambda lesson: lesson.code("y", 1), lambda lesson: lesson.section("Other"), lambda lesson: lesson.written_table("Heading")])
def test_a_part_that_the_lesson_lacks_is_an_error(lesson, ask):
    with pytest.raises(ValueError, match="01_sample.ipynb"):
        ask(lesson)


def test_a_deck_is_one_file(decks):
    for path in decks:
        html = path.read_text(encoding="utf-8")
        assert not re.search(r'(?:src|href)="(?!data:)[^"]+"', re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)), path.name
        assert not re.search(r"@import|url\((?!data:)", re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)), path.name


@pytest.fixture(scope="session")
def decks(tmp_path_factory):
    return deck.write_decks(tmp_path_factory.mktemp("slides"))


FITS = """() => { const slide = Reveal.getCurrentSlide(), parts = [...slide.querySelectorAll('h1, h2, p, li, td, th, img, pre, .answer, .numbers div, .verdicts span')];
    const boxes = parts.filter((part) => !part.closest('aside')).map((part) => [part.getBoundingClientRect(), part]);
    return {height: slide.scrollHeight, bottom: Math.max(...boxes.map(([box]) => box.bottom)), right: Math.max(...boxes.map(([box]) => box.right)), left: Math.min(...boxes.map(([box]) => box.left)),
        cut: boxes.filter(([, part]) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth).map(([, part]) => part.innerText),
        letters: Math.min(...boxes.filter(([, part]) => part.innerText).map(([, part]) => parseFloat(getComputedStyle(part).fontSize))),
        shown: slide.querySelector('.body').innerText.trim().length > 20 || slide.querySelectorAll('.body img').length > 0,
        pictures: [...slide.querySelectorAll('img')].map((image) => image.getBoundingClientRect().width),
        stretched: [...slide.querySelectorAll('img')].map((image) => image.width / image.height / (image.naturalWidth / image.naturalHeight)),
        enlarged: [...slide.querySelectorAll('img.figure')].map((image) => image.width / image.naturalWidth)}; }"""


@pytest.mark.site
def test_every_slide_fits_and_a_pdf_has_them_all(decks):
    playwright = pytest.importorskip("playwright.sync_api", reason="the `browser` extra is not installed")
    browser = deck.find_browser()
    if browser is None:
        pytest.skip("no Chromium here: install one, or run `make browser`")
    complaints, counts = [], {}
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser)
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        for path in decks:
            page.goto(path.as_uri())
            page.wait_for_selector(".reveal.ready")
            counts[path.stem] = page.evaluate("Reveal.getTotalSlides()")
            for number in range(counts[path.stem]):
                page.evaluate(f"Reveal.slide({number})")
                found, where = page.evaluate(FITS), f"{path.stem}, slide {number + 1}"
                assert found["height"] <= 720 and found["bottom"] <= 700 and found["right"] <= 1280 and found["left"] >= 0 and not found["cut"] and found["letters"] >= 24 and found["shown"], f"{where}: {found}"
                assert all(width > 400 for width in found["pictures"]) and all(0.99 < ratio < 1.01 for ratio in found["stretched"]), f"{where}: {found}"
                assert all(scale > 1.2 for scale in found["enlarged"]), f"{where}: the text of the figure is small: {found}"
        chromium.close()
    assert not complaints and counts == {name: len(slides) for name, slides in all_slides().items()}
    for pdf in deck.write_pdfs([path for path in decks if path.stem in ("index", "04_metrics")], browser):  # printing takes seconds
        pages = pdf.read_bytes()
        assert pages.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pages)) == counts["index" if pdf.stem == "facekp" else pdf.stem], pdf.name
