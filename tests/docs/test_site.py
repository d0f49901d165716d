"""The site: built without warnings, complete, accessible, and with the package's results in the browser.

`make test-site` runs these tests. Those that need the packages of the `docs` extra or a Chromium are skipped without them; `make test-site` installs the
packages and looks for a browser (`make browser` installs one if there is none).
"""

import ast
import importlib.util
import io
import json
import re
import subprocess
import sys
import threading
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import facekp
from facekp.experiments.results import HISTORY_COLUMNS, Study, has_study, read_study, write_study
from facekp.inference.expression import measure_expression
from facekp.inference.head_pose import head_pose

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "nbs" / "_site"
sys.path.insert(0, str(TOOLS))

import modelcard
import tryit
from browser import find_browser
from build import lesson_modules, module_pages
from lessons import (
    NOTEBOOKS,
    alternative_text,
    box_as_list,
    colab_url,
    course_paths,
    lesson_paths,
    library_cells,
    library_paths,
    page_name,
    read_cells,
    repository_url,
    title_of,
)
from record_words import PARTS
from reference import entries, exported_names, module_name, reference_page
from tables import MAIN, TITLES, best_rows, read_table

pytestmark = pytest.mark.site
NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "latex2mathml", "ziamath", "sphinx_revealjs")
needs_docs = pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="the `docs` extra is not installed")
NEEDS_WORDS = re.compile(r"ndarray|NDArray|\b(?:int|float|str|dict|Mapping|Any|Callable)\b")  # types that do not describe their content
RENDERER = {path for path in (ROOT / "facekp" / "synthetic").glob("*.py") if path.stem not in ("renderer", "dataset", "gaps", "kaggle_files")}  # internal
VOID = {"img", "br", "hr", "input", "meta", "link", "source", "wbr", "col"}


class Page(HTMLParser):
    "The links, images and resources of a page, and its anchors."

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.pictures, self.loads, self.names, self.text = [], [], [], set(), []
        self.hidden = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.hidden += tag in ("script", "style")
        self.names |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.pictures.append((values.get("src", ""), values.get("alt")))
        if tag in ("script", "iframe", "source") and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(values["href"])

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.text.append(data)


# ---------------------------------------------------------------- what the pages are made of

def test_a_figure_without_alternative_text_is_an_error():
    assert alternative_text('#| fig-alt: A nose, twice\nfigure.suptitle("Two noses")') == "A nose, twice"
    with pytest.raises(ValueError, match="fig-alt"):
        alternative_text('figure.suptitle("Two noses")')


def test_colab_and_repository_come_from_pyproject():
    url = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert repository_url() == url
    assert colab_url("course/01_tour") == f"https://colab.research.google.com/github/{urlsplit(url).path.strip('/')}/blob/main/nbs/course/01_tour.ipynb"


def test_reference_explains_a_function(tmp_path):
    module = tmp_path / "sample.py"
    module.write_text('"""A sample.\n\nMore."""\n__all__ = ["LIMIT", "move", "Box"]\nLIMIT = 3  # px\n'
                      'def move(\n    points: list,  # float32 [15,2], pixels\n    right: int = 2,  # pixels\n) -> list:  # the points, moved\n    "Move points."\n'
                      'class Box:\n    "A box."\n    width: int = 1  # pixels\n    def area(self) -> int:  # px2\n        "Its area."\n'
                      '    def show(\n        self,\n        size=2,  # inches\n    ):  # matplotlib Figure\n        "Draw it."\n')
    assert exported_names(module) == ["LIMIT", "move", "Box"]
    page = re.sub(" +", " ", reference_page(module, "../course/01_tour.ipynb"))
    for part in ("{py:function} facekp.sample.move(points, right=2)", r"| `points` | `list` | | float32 \[15,2\], pixels |", "| `right` | `int` | `2` | pixels |",
                 "| **returns** | `list` | | the points, moved |", "{py:method} facekp.sample.Box.area()", "| **returns** | | | matplotlib Figure |", "| `width` | `int` | `1` | pixels |", "{py:data} facekp.sample.LIMIT"):
        assert part in page, part


@pytest.mark.parametrize("path", library_paths(), ids=lambda path: path.stem)
def test_a_library_page_does_not_end_with_an_empty_section(path):
    last = library_cells(path)[-1]
    assert last["cell_type"] == "code" or not last["source"].strip().splitlines()[-1].startswith("#"), last["source"]


@pytest.mark.parametrize("module", sorted(path for path in (ROOT / "facekp").rglob("[!_]*.py") if exported_names(path) and path not in RENDERER), ids=module_name)
def test_reference_says_what_numbers_arrays_and_texts_mean(module):
    heirs = {node.name for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef) and node.bases}
    owner, empty = "", []
    for line in (re.sub(" +", " ", line) for line in entries(module)):
        if line.startswith("``````{py"):
            owner = line
        if not (line.startswith(("| `", "| **returns**")) and line.endswith("| |")):
            continue
        speaks_for_itself = not NEEDS_WORDS.search(line.split("|")[2]) or any(f".{name}." in owner for name in heirs)  # subclasses: the base class has the explanation
        if not speaks_for_itself:
            empty.append(f"{owner}: {line}")
    assert not empty, f"explain it with a comment after it, in the notebook of {module_name(module)}: {empty[0]}"


@pytest.mark.skipif(importlib.util.find_spec("pygments") is None, reason="the `docs` extra is not installed")
def test_lines_of_code_keep_their_text_and_know_their_indent():
    from codelines import CodeLines
    from pygments import highlight
    from pygments.lexers import PythonLexer

    source = 'def f(a):\n    """A <b>.\n\n      B & "C".\n    """\n    return (a <\n            "d")\n'
    html = highlight(source, PythonLexer(), CodeLines())
    shown = re.search(r"<pre>(.*)</pre>", html, re.DOTALL).group(1)
    assert unescape(re.sub(r"<[^>]+>", "", shown)) == source
    assert re.findall(r"--in:(\d+)", html) == ["4", "6", "4", "4", "12"] and html.count('class="line"') == 6
    assert highlight("a  1\n\nb  2\n", PythonLexer(), CodeLines()).count('class="line columns"') == 2


def test_box_of_a_lesson_becomes_a_list():
    before = "Words.\n\n| Prerequisites | Data | Time |\n|---|---|---|\n| read `a \\| b` | [lesson 0](00_core.ipynb) | 1 minute |\n\nMore.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    after = box_as_list(before)
    assert "Prerequisites\n: read `a \\| b`\n" in after and "Data\n: [lesson 0](00_core.ipynb)\n" in after and "Time\n: 1 minute\n" in after
    assert after.startswith("Words.\n\n```{container} box\n") and after.endswith("```\n\nMore.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |")


def test_start_page_shows_one_configuration_per_model():
    rows = best_rows(MAIN)
    assert len({row["model"] for row in rows}) == len(rows) > 3
    assert [float(row["rmse"]) for row in rows] == sorted(float(row["rmse"]) for row in rows)


# ---------------------------------------------------------------- the built site

def html_files(site: Path) -> list[Path]:
    "Return the pages of the site, without files of the theme."
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    "Return a newly built site."
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, TOOLS / "build.py", "--pages", folder / "pages", "--site", folder / "site"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    "Return every page of the site, parsed."
    return {path: Page(path) for path in html_files(site)}


@needs_docs
def test_every_notebook_and_every_exported_name_has_its_place(site, pages):
    for path in [*course_paths(), *library_paths()]:
        page = pages[site / f"{page_name(path)}.html"]
        assert colab_url(page_name(path)) in page.links
        assert (site / "notebooks" / path.relative_to(NOTEBOOKS)).read_bytes() == path.read_bytes()
        assert title_of(path).replace("`", "").split("'")[0] in "".join(page.text).replace("’", "'")
    for module, name in module_pages().items():
        page = pages[site / "library" / f"{name}.html"]
        for exported in exported_names(module):
            assert f"{module_name(module)}.{exported}" in page.names, exported
    assert all(module in module_pages() for module in lesson_modules())


@needs_docs
def test_no_link_and_no_picture_is_broken_and_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in [*page.links, *page.loads, *(source for source, _ in page.pictures)]:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto", "data"):
                assert parts.scheme == "data" or address not in page.loads and address not in dict(page.pictures), f"{path}: {address} is loaded from elsewhere"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path}: {address} is not there"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].names, f"{path}: {address} has no such place"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import ['\"]?https?:", style.read_text(encoding="utf-8", errors="ignore")), style


@needs_docs
def test_every_picture_says_what_it_shows(pages):
    for path, page in pages.items():
        for source, alternative in page.pictures:
            assert alternative is not None and len(alternative) > 15 and "_images" not in alternative, f"{path}: {source} has no alternative text"


@needs_docs
def test_formulas_are_set(site, pages):
    for path in pages:
        if path.parent.name == "course":
            source = "".join(cell["source"] for cell in read_cells(NOTEBOOKS / "course" / f"{path.stem}.ipynb") if cell["cell_type"] == "markdown")
            assert ("<math" in path.read_text()) == bool(re.search(r"\$\S", re.sub(r"`[^`]*`", "", source))), path


@needs_docs
def test_formulas_have_a_font_of_the_site(tab, address):
    formulas = [path for path in lesson_paths() if "$" in "".join(cell["source"] for cell in read_cells(path) if cell["cell_type"] == "markdown")]
    if not formulas:
        pytest.skip("no lesson has a formula")
    tab.goto(f"{address}/{page_name(formulas[0])}.html")
    loaded = "Promise.all([...document.fonts].map((font) => font.load())).then((fonts) => fonts.filter((font) => font.family.includes('STIX') && font.status === 'loaded').length)"
    assert tab.evaluate(loaded) == 1
    assert "STIX" in tab.evaluate("getComputedStyle(document.querySelector('math mi')).fontFamily")


@needs_docs
def test_tables_show_the_records(site, pages):
    text = (site / "comparison.html").read_text()
    for folder in TITLES:
        for row in read_table(folder):
            assert f'<td data-value="{row["rmse"]}">{float(row["rmse"]):.2f}</td>' in text
    start = (site / "index.html").read_text()
    for row in best_rows(MAIN):
        assert f"{float(row['rmse']):.2f} px" in start


def test_start_page_of_the_table_is_sorted():
    for folder in TITLES:
        errors = [float(row["rmse"]) for row in read_table(folder)]
        assert errors == sorted(errors), folder


# ---------------------------------------------------------------- in a browser

@pytest.fixture(scope="module")
def address(site):
    "Serve the site and yield its address."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    "Serve files without log messages."

    def log_message(self, *ignored):
        pass


@pytest.fixture(scope="module")
def chromium():
    "Yield a running Chromium."
    playwright = pytest.importorskip("playwright.sync_api", reason="the `browser` extra is not installed")
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium here: install one, or run `make browser`")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    "Yield a tab that records every error of the page and every request to another machine."
    tab = chromium.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    tab.complaints = []
    tab.on("console", lambda message: tab.complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    # a request that was pending when the tab left the page, such as the deck in a frame, has not failed
    tab.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}") if request.failure != "net::ERR_ABORTED" else None)
    tab.on("request", lambda request: tab.complaints.append(f"asked elsewhere: {request.url}") if not request.url.startswith(("http://127.0.0.1", "data:")) else None)
    yield tab
    tab.close()


LOOKS = [(1400, "light"), (390, "dark")]  # both widths and both themes on every page; all four combinations on our own pages
STATE = """() => ({theme: document.documentElement.dataset.theme, ground: getComputedStyle(document.body).backgroundColor,
    wide: document.documentElement.scrollWidth, cramped: [...document.querySelectorAll('.box dd, .parameters td:nth-child(4)')].filter((e) => e.innerText.trim() && e.clientWidth < 200).map((e) => e.innerText),
    cut: [...document.querySelectorAll('.cell_input pre')].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map((e) => e.innerText.slice(0, 99)), broken: [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)})"""


@needs_docs
def test_every_page_stands_in_every_look(tab, address, site):
    grounds, last = {}, LOOKS[0]
    for path in html_files(site):
        name = path.relative_to(site).as_posix()
        if name.startswith("slides/"):
            continue  # the decks have their own tests
        looks = LOOKS + ([(1400, "dark"), (390, "light")] if name in ("index.html", "comparison.html", "try.html") else [])
        if last == looks[1]:  # begin with the current combination, so that no page is laid out more often than needed
            looks[:2] = looks[1::-1]
        tab.goto(f"{address}/{name}")
        for width, scheme in looks:
            last = width, scheme
            tab.set_viewport_size({"width": width, "height": 900})
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)  # the page is notified a moment later
            state = tab.evaluate(STATE)
            grounds.setdefault(scheme, set()).add(state["ground"])
            assert state["wide"] <= width, f"{name} is {state['wide']} px wide on {width} px"
            assert not state["broken"], f"{name}: {state['broken']}"
            assert not state["cramped"] and not state["cut"], f"{name} on {width} px: {state['cramped']} {state['cut']}"
        assert not tab.complaints, f"{name}: {tab.complaints}"
    assert grounds["light"].isdisjoint(grounds["dark"])


@needs_docs
@pytest.mark.parametrize("size", [(1400, 900), (390, 844)], ids=str)
def test_start_page_says_it_all_in_one_screen(tab, address, size):
    tab.set_viewport_size(dict(zip(("width", "height"), size)))
    tab.goto(f"{address}/index.html")
    for part in (".hero .lead", ".hero pre", ".hero img", ".hero .button >> nth=0", "table.bars"):
        box = tab.locator(part).bounding_box()
        assert box["width"] > 100 and box["y"] >= 0 and box["y"] + box["height"] <= size[1], f"{part}: {box}"


@needs_docs
def test_comparison_fits_a_desktop_and_pictures_open_whole(tab, address):
    tab.goto(f"{address}/comparison.html")
    for width in tab.evaluate("[...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth - e.clientWidth)"):
        assert width <= 1, f"{width} px of the table are hidden"
    tab.goto(f"{address}/results.html")
    source = tab.locator(".bd-article img").first.evaluate("(image) => image.src")
    tab.locator(".bd-article a.picture").first.click()
    tab.wait_for_url(source)


@needs_docs
@pytest.mark.parametrize("look", [(1400, "light"), (390, "dark")], ids=str)
def test_pages_can_be_read_by_everybody(tab, address, site, look):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the `browser` extra is not installed").Axe()
    tab.set_viewport_size({"width": look[0], "height": 900})
    tab.emulate_media(color_scheme=look[1])
    # contrast checks are slow on long pages: check one page of each kind, the shortest lesson and module
    shortest = [min((site / kind).glob("*_*.html"), key=lambda path: path.stat().st_size) for kind in ("course", "library")]
    lesson, module = (path.relative_to(site).as_posix() for path in shortest)
    more = (*(["results.html"] if (site / "results.html").exists() else []), "contributing.html", "search.html", module) if look[0] == 1400 else ()
    for name in ("index.html", "comparison.html", "model.html", *(["try.html"] if (site / "try.html").exists() else []), lesson, *more):
        tab.goto(f"{address}/{name}")
        tab.evaluate("document.querySelectorAll('tbody tr:nth-child(n + 5)').forEach((row) => row.remove())")  # the rows of a table have the same structure
        found = axe.run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}).response["violations"]
        told = [f"{one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in found]
        assert not told, f"{name}: {told}"


@needs_docs
@pytest.mark.parametrize("query, answer", [("impose_gaps", "facekp.synthetic.gaps.impose_gaps"), ("mirror", "facekp.augment.mirror"), ("forward fill", "Imputation")])
def test_search_finds(tab, address, query, answer):
    tab.goto(f"{address}/search.html?q={query.replace(' ', '+')}")
    tab.wait_for_selector("#search-results li a", timeout=30_000)
    tab.wait_for_function("(answer) => document.querySelector('#search-results').innerText.includes(answer)", arg=answer, timeout=30_000)
    assert not tab.complaints


@needs_docs
def test_table_sorts_and_search_opens_from_the_keyboard(tab, address):
    tab.goto(f"{address}/comparison.html")
    table = tab.locator("table.sortable").first
    first = [cell.inner_text() for cell in table.locator("tbody tr td:first-child").all()]
    heading = table.get_by_role("button", name="parameters")
    column = heading.evaluate("(button) => button.closest('th').cellIndex") + 1
    heading.focus()
    for order, better in (("ascending", min), ("descending", max)):
        tab.keyboard.press("Enter")
        numbers = [int(cell.get_attribute("data-value") or 0) for cell in table.locator(f"tbody tr td:nth-child({column})").all()]
        assert numbers == sorted(numbers, reverse=order == "descending") and numbers[0] == better(numbers)
        assert heading.locator("xpath=..").get_attribute("aria-sort") == order
    assert len(first) == len(numbers)
    tab.locator("body").press("Control+k")
    tab.keyboard.type("rotate")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?q=rotate*")
    tab.wait_for_selector("#search-results li a", timeout=30_000)


@needs_docs
def test_look_can_be_chosen_with_a_button(tab, address):
    tab.goto(f"{address}/index.html")
    for mode in ("dark", "light"):
        tab.locator("button.theme-switch-button:visible").first.click()
        tab.locator(f".theme-change-button[data-mode={mode}]:visible").first.click()
        tab.goto(f"{address}/comparison.html")
        assert tab.evaluate("document.documentElement.dataset.theme") == mode, "the theme does not persist on the next page"


@needs_docs
def test_keyboard_reaches_the_text(tab, address):
    tab.goto(f"{address}/index.html")
    tab.keyboard.press("Tab")
    assert "main" in tab.evaluate("document.activeElement.innerText").lower(), "the first tab stop must skip to the main text"
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.matches('.hero a.button')"):
            break
    assert tab.evaluate("document.activeElement.matches('.hero a.button') && getComputedStyle(document.activeElement).outlineStyle") == "solid"


# ---------------------------------------------------------------- Try it

@pytest.fixture
def try_page(tab, address, site):
    "Open the page `Try it`."
    if not (site / "try.html").exists():
        pytest.skip("no Try it here: ONNX Runtime for the web could not be fetched")
    tab.goto(f"{address}/try.html")
    tab.wait_for_selector("#try-works:not([hidden])")
    return tab


def points_on(tab, said: str = "found in") -> np.ndarray:
    "Return what the page shows for its image: x, y and sigma of every point, [faces,15,3]."
    tab.wait_for_function("said => document.querySelector('#try-status').textContent.includes(said)", arg=said, timeout=120_000)
    cells = tab.evaluate("[...document.querySelectorAll('#try-table tbody tr')].map((row) => [...row.cells].slice(2).map((cell) => Number(cell.textContent)))")
    tab.evaluate("document.querySelector('#try-status').textContent = ''")
    return np.array(cells).reshape(-1, 15, 3)


def same_as_python(found: np.ndarray, picture: Path | bytes) -> None:
    "Check that the page found what facekp.predict finds: within half a pixel of the 96x96 crop, and within a seventh on average. Noise of one grey value moves a point by a quarter of a pixel, and browsers decode and scale slightly differently."
    expected = facekp.load(threads=1).predict(picture)
    assert len(expected) == len(found) > 0
    unit = np.array([face.box[2] - face.box[0] for face in expected.faces])[:, None, None] / 96
    off = np.abs(found[..., :2] - expected.points) / unit
    assert off.max() < 1 / 2 and off.mean() < 1 / 7, off
    np.testing.assert_allclose(found[..., 2], [face.sigma for face in expected.faces], atol=0.5)


@needs_docs
def test_the_page_shows_measures_and_head_pose(try_page, site):
    try_page.click("[data-sample='five.png']")
    points = points_on(try_page)
    rows = np.array(try_page.evaluate("[...document.querySelectorAll('#try-measures tbody tr')].map((row) => [...row.cells].slice(1).map((cell) => Number(cell.textContent)))"))
    shown = [[*measure_expression(face[:, :2]).values(), *head_pose(face[:, :2])] for face in points]
    np.testing.assert_allclose(rows[:, :3], np.array(shown)[:, :3], atol=0.011)  # computed from the points on the page, which are rounded
    np.testing.assert_allclose(rows[:, 3:], np.array(shown)[:, 3:], atol=0.2)
    faces = sorted(facekp.load(threads=1).predict(site / "_static" / "try" / "five.png").faces, key=lambda face: face.points[0, 0])
    assert len(faces) == len(rows) == 5
    rows = rows[np.argsort(points[:, 0, 0])]  # faces of equal confidence may come in any order
    np.testing.assert_allclose(rows[:, :3], [list(face.expression.values()) for face in faces], atol=0.03)
    np.testing.assert_allclose(rows[:, 3:], [list(face.pose) for face in faces], atol=2)


@needs_docs
def test_the_page_finds_what_the_package_finds(try_page, site, tmp_path):
    try_page.focus("[data-sample='one.png']")
    try_page.keyboard.press("Enter")
    same_as_python(points_on(try_page), site / "_static" / "try" / "one.png")
    assert "with one face" in try_page.get_attribute("#try-canvas", "aria-label") and try_page.is_visible("#try-numbers")
    # an image of the user, rotated, with an EXIF orientation as phones store it
    picture, note = Image.open(site / "_static" / "try" / "one.png").convert("RGB"), Image.Exif()
    note[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "mine.jpg", exif=note, quality=95)
    try_page.set_input_files("#try-file", tmp_path / "mine.jpg")
    same_as_python(points_on(try_page), tmp_path / "mine.jpg")
    Image.new("RGB", (200, 150), "gray").save(tmp_path / "nobody.png")
    try_page.set_input_files("#try-file", tmp_path / "nobody.png")
    assert len(points_on(try_page, "No face found")) == 0 and not try_page.is_visible("#try-numbers")
    (tmp_path / "words.png").write_text("no picture")
    try_page.set_input_files("#try-file", tmp_path / "words.png")
    points_on(try_page, "is not an image that this browser can read")
    assert not try_page.complaints, try_page.complaints


@needs_docs
def test_without_a_webcam_the_page_says_so(try_page):
    try_page.click("#try-webcam")
    points_on(try_page, "webcam")
    assert try_page.get_attribute("#try-webcam", "aria-pressed") == "false" and not try_page.complaints


def test_runtime_is_refused_where_it_is_not_what_was_expected(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tryit, "RUNTIME", tmp_path / "web" / "runtime")
    monkeypatch.setattr(tryit.urllib.request, "urlopen", lambda *ignored, **also: io.BytesIO(b"something else"))
    assert not tryit.has_runtime.__wrapped__() and not (tmp_path / "web").exists()
    assert "left out" in capsys.readouterr().out


# ---------------------------------------------------------------- the model card

def test_model_card_tells_what_the_records_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(modelcard, "DEPLOY", tmp_path)
    monkeypatch.setattr(modelcard, "ABLATIONS", (tmp_path / "ablation",))
    bare = modelcard.card_page()
    assert "research only" in bare and "## Results" not in bare and not modelcard.shipped_sentence()
    record = {"metrics": {"rmse": 1.234, "n_faces": 238, "per_point": {"nose_tip": 1.5}, "intervals": {"rmse": [1.1, 1.3]}},
              "by": {"source": {"helen_train": {"rmse": 1.01, "interval": [0.9, 1.2], "n_faces": 180}}}, "command": "python recipes/default/train.py --photographs a.npz"}
    envelope = {"schema": 1, "command": None, "data": None, "seconds": None, "machine": None, "versions": None}
    (tmp_path / "default.json").write_text(json.dumps(envelope | record))
    (tmp_path / "calibration.json").write_text(json.dumps(envelope | {"expected": [0.5, 1, 2], "measured": [0.6, 1.1, 1.9]}))
    (tmp_path / "formats.json").write_text(json.dumps(envelope | {"rows": [{"format": "litert-int8", "bytes": 345_678, "rmse": 1.25}]}))
    (tmp_path / "peers.json").write_text("{broken")
    runs = pd.DataFrame([{"run": f"{part}{seed}", "model": "compact", "labels": "truth", "augment": 2, "seed": seed, "part": part, "stages": "stage 1", "rmse": 1.45 + increase, "rmse_degraded": 2.9, "images_shown": 38_200}
                         for part, increases in (("nothing left out", (0, 0)), ("the <window>", (0.024, 0.03))) for seed, increase in enumerate(increases)]).set_index("run")
    study = Study(runs, np.full((4, 2), np.nan), np.arange(2), pd.DataFrame(columns=list(HISTORY_COLUMNS)), {"schema": 2, "data": {"name": "faces"}, "note": "Of version 6."})
    monkeypatch.setattr(modelcard, "ABLATIONS", (tmp_path / "none", write_study(study, tmp_path / "ablation")))
    monkeypatch.setattr(modelcard, "PARTS", {"the <window>": "the <window>", "third_stage": "stage 3, so fewer images are shown"})
    page = modelcard.card_page()
    for part in ("1.23", "1.10–1.30", "nose tip", "helen train", "<svg", "litert-int8", "0.35", "python recipes/default/train.py \\\n    --photographs a.npz",
                 "the &lt;window&gt;", "+0.027", "+0.024, +0.030", "2 seeds", "Not run in this way: stage 3.", "Of version 6.", "2.90"):
        assert part in page, part
    assert "## Other models" not in page and "All stages" not in page and "**1.23 px** (1.10–1.30) on 238" in modelcard.shipped_sentence()
    assert "source helen_train: RMSE 1.01 px" in modelcard.card_text()


def test_model_card_has_words_for_every_part_of_the_ablation_and_no_private_ones():
    parts = {part for folder in modelcard.ABLATIONS if has_study(folder) for part in read_study(folder).runs.part}
    assert parts and parts - {modelcard.COMPLETE} <= set(PARTS)
    assert not re.search(r"\b(drawn|marks|spread|net's|twins?)\b", re.sub(r"```.*?```", "", modelcard.card_page(), flags=re.DOTALL))


def test_readme_and_citation_say_what_is_true():
    readme, project, citation = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "pyproject.toml", "CITATION.cff"))
    for name in re.findall(r"/actions/workflows/([\w.]+)/badge\.svg", readme):
        assert (ROOT / ".github" / "workflows" / name).is_file(), name
    oldest = re.search(r'requires-python = ">=([\d.]+)"', project).group(1)
    assert f"Python {oldest} or newer" in readme and 'license = "Apache-2.0 AND LicenseRef-' in project and "Apache-2.0" in readme and "license: Apache-2.0" in citation
    assert f"version: {facekp.__version__}\n" in citation and f"repository-code: {repository_url()}\n" in citation
    documentation = re.search(r'Documentation = "(.+)"', project).group(1)
    for page in re.findall(rf"{re.escape(documentation)}(\w+)\.html", readme):
        assert page in ("try", "model", "slides", "results", "prediction"), page
