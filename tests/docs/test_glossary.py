"The glossary: every term has an anchor, the unit that introduces a term links to it, and the linker changes nothing else."

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

import glossary
from lessons import course_paths, links_within_site, site_url
from solutions import solved_cell

TERMS = glossary.read_terms(glossary.GLOSSARY.read_text(encoding="utf-8"))
PAGE = site_url() + "teaching/glossary.html"
LINK = re.compile(rf"\({re.escape(PAGE)}#([^)]*)\)")


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


@pytest.mark.parametrize("heading, anchor", [("Mean face", "mean-face"), ("RMSE, MSE, MAE", "rmse-mse-mae"), ("Non-maximum suppression (NMS)", "non-maximum-suppression-nms"),
                                             ("Multiplicity, Holm correction", "multiplicity-holm-correction")])
def test_anchors_are_those_of_github(heading, anchor):
    assert glossary.anchor_of(heading) == anchor


def test_an_address_finds_the_entry_on_the_page():
    make_id = pytest.importorskip("docutils.nodes").make_id  # the anchors that Sphinx writes
    assert [term.name for term in TERMS if make_id(term.name) != term.anchor] == []


def test_each_entry_names_its_unit_once():
    headings = glossary.HEADING.findall(glossary.GLOSSARY.read_text(encoding="utf-8"))
    assert [term.name for term in TERMS] == headings and len({term.anchor for term in TERMS}) == len(TERMS)
    assert {term.unit for term in TERMS} <= {path.stem for path in course_paths()}
    assert {"Overfitting", "Hyperparameter", "Activation", "Validation set", "Freeze, fine-tune"} <= set(headings)


@pytest.mark.parametrize("path", course_paths(), ids=lambda path: path.stem)
def test_a_unit_links_the_terms_that_it_introduces(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    own = [term for term in TERMS if term.unit == path.stem]
    assert own and not glossary.unlinked(cells, own), f"run python nbs/_site/glossary.py {path.stem}"
    linked = LINK.findall("".join("".join(cell["source"]) for cell in cells))
    assert set(linked) <= {term.anchor for term in TERMS} and len(linked) == len(set(linked))


def test_the_first_use_is_linked_and_a_definition_is_preferred():
    term = glossary.Term("Heatmap", "01_tour", "heatmap")
    header = markdown("# Heatmaps\n\nA heatmap here is left alone.")
    plain = [header, markdown("## The heatmap\n\n`heatmap`, $heatmap$, [heatmap](x.md) and heatmapped.\n\n| heatmap |\n\nTwo heatmaps, one heatmap.")]
    assert glossary.link_terms(plain, [term]) == []
    assert "".join(plain[1]["source"]).endswith(f"Two [heatmaps]({PAGE}#heatmap), one heatmap.")
    bold = [header, markdown("A heatmap."), markdown("This is a **heatmap**.")]
    assert glossary.link_terms(bold, [term]) == [] and bold[1] == markdown("A heatmap.")
    assert "".join(bold[2]["source"]) == f"This is a **[heatmap]({PAGE}#heatmap)**."
    before = json.dumps(bold)
    assert glossary.link_terms(bold, [term]) == [] and json.dumps(bold) == before
    assert bold[0] == header == markdown("# Heatmaps\n\nA heatmap here is left alone.")


def test_a_term_without_a_use_is_named():
    term = glossary.Term("Stride", "08_cnn", "stride")
    cells = [markdown("# Stride"), markdown("No such word; `stride`.")]
    assert glossary.link_terms(cells, [term]) == [term] == glossary.unlinked(cells, [term])


def test_a_solution_links_from_its_own_folder():
    cell = solved_cell(markdown(f"A [stride]({PAGE}#stride), a [picture](../pictures/face.png)."))
    assert "".join(cell["source"]) == f"A [stride]({PAGE}#stride), a [picture](../../pictures/face.png)."


def test_a_page_links_within_the_site():
    text = f"A [stride]({PAGE}#stride), [unit 1]({site_url()}course/01_tour.html), [the card]({site_url()}model.html), [elsewhere](https://example.org/model.html)."
    assert links_within_site(text, "../") == ("A [stride](../teaching/glossary.md#stride), [unit 1](../course/01_tour.ipynb), [the card](../model.md), "
                                              "[elsewhere](https://example.org/model.html).")
