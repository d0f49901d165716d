"""Link terms of the course to the glossary.

python nbs/_site/glossary.py [--check] [UNIT ...]: in each unit, link the first use of every term that this unit introduces according to the glossary, or, with --check, list
what is not linked. A link is an address of the site, so that it opens in Colab too; on the site it stays within the site. A term in bold or italics is taken for its
definition and preferred. Headings, code, formulas, tables, links and the header cell are left alone.
"""

import json
import re
import sys
from dataclasses import dataclass

from lessons import COURSE, NOTEBOOKS, site_url
from run import cell_ids

GLOSSARY = NOTEBOOKS / "teaching" / "glossary.md"
HEADING, INTRODUCED = re.compile(r"^### (.+)$", re.MULTILINE), re.compile(r"\[(?:Unit \d+|Capstone)\]\(\.\./course/(\w+)\.ipynb\)")
SKIPPED = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|^#+ [^\n]*|^\|[^\n]*|https?://\S+", re.DOTALL | re.MULTILINE)
WORDS = {  # how the course writes a term, where that is not its heading
    "Parameter": "parameters?", "Backbone, head": "backbone", "Freeze, fine-tune": "fine-tun(?:e|ed|es|ing)", "MCAR, MAR, MNAR": "MCAR", "RMSE, MSE, MAE": "root mean squared error",
    "NME": "normalised mean error", "PCK": "percentage of correct keypoints", "CED curve": "cumulative error distribution", "ONNX, LiteRT": "ONNX", "Multiplicity, Holm correction": "Holm's method",
    "Non-maximum suppression (NMS)": "non-maximum suppression", "Face alignment": "aligned", "Overfitting": "overfit(?:ting|s|ted)?", "Activation": "activations?", "Data leakage": "leak(?:age|s|ed)?",
    "Augmentation": "augment(?:ation|ed)?", "Quantisation": "quanti[sz](?:ation|ed|e|es|ing)", "Pooling": "(?:max-)?pooling", "Near duplicate": "near[ -]duplicates?|duplicates?", "Mean face": "mean of all training labels|mean face",
    "Calibration": "calibrat(?:ion|ed|e)", "Group": "groups?|same person", "Record": "records?", "Heatmap": "heatmaps?", "Ablation": "ablations?", "Fully connected layer": "fully connected|dense layers?",
    "Optimiser": "optimisers?", "Baseline": "baselines?", "KNN imputation": "KNN", "Ridge regression": "ridge(?: regression)?", "Synthetic face": "synthetic (?:faces?|table)", "Outlier": "outliers?|wrong labels", "Batch": "batch(?:es)?", "Learning curve": "(?:learning )?curves?", "Early stopping": "early stopping|stops early", "Bounding box": "(?:bounding )?box(?:es)?",
    "Crop": "crop(?:ped|s)?", "Head pose": "(?:head )?pose", "Annotation convention": "conventions?", "Paired difference": "paired differences?|paired",
    "Coordinate convention": "coordinate convention|pixel centres?|centre of the (?:first|upper left) pixel|subject's", "Facial keypoint": "facial keypoints?", "Budget": "budgets?", "Change point": "change[ -]points?",
}


@dataclass
class Term:
    "A term of the glossary."
    name: str
    unit: str  # the notebook that introduces it, without its ending
    anchor: str

    @property
    def link(self) -> str:
        return f"{site_url()}teaching/glossary.html#{self.anchor}"

    @property
    def pattern(self) -> str:
        return WORDS.get(self.name, re.escape(self.name) + "s?")


def anchor_of(heading: str) -> str:
    "Return the anchor of a heading, as GitHub and MyST make it."
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def read_terms(text: str) -> list[Term]:
    "Return the terms of the glossary in their order."
    parts = HEADING.split(text)[1:]
    return [Term(name, units[-1], anchor_of(name)) for name, body in zip(parts[::2], parts[1::2], strict=True) if (units := INTRODUCED.findall(body))]


def find_use(sources: list[str], pattern: str) -> tuple[int, int, int] | None:
    "Return cell, start and end of the use of a term that is to be linked: the first one in bold or italics, or else the first one."
    hidden = [SKIPPED.sub(lambda found: "\0" * len(found.group()), source) for source in sources]
    for form in (rf"\*+(?P<term>(?i:{pattern}))\*+", rf"(?<!\w)(?P<term>(?i:{pattern}))(?!\w)"):
        for number, text in enumerate(hidden):
            if found := re.search(form, text):
                return number, *found.span("term")
    return None


def link_terms(cells: list[dict], terms: list[Term]) -> list[Term]:
    "Link each term once in a unit's markdown cells, behind the header; return the terms without a use."
    missing = []
    for term in terms:
        texts = [cell for cell in cells[1:] if cell["cell_type"] == "markdown"]
        sources = ["".join(cell["source"]) for cell in texts]
        if any(f"({term.link})" in source for source in sources):
            continue
        use = find_use(sources, term.pattern)
        if use is None:
            missing.append(term)
            continue
        number, start, end = use
        text = sources[number]
        texts[number]["source"] = f"{text[:start]}[{text[start:end]}]({term.link}){text[end:]}".splitlines(keepends=True)
    return missing


def unlinked(cells: list[dict], terms: list[Term]) -> list[Term]:
    "Return the terms that a unit introduces without a link."
    text = "".join("".join(cell["source"]) for cell in cells)
    return [term for term in terms if f"({term.link})" not in text]


def main() -> int:
    terms, wanted = read_terms(GLOSSARY.read_text(encoding="utf-8")), [name for name in sys.argv[1:] if name != "--check"]
    left = []
    for path in sorted(COURSE.glob("*.ipynb")):
        if wanted and path.stem not in wanted:
            continue
        own, before = [term for term in terms if term.unit == path.stem], path.read_text(encoding="utf-8")
        notebook = json.loads(before)
        left += unlinked(notebook["cells"], own) if "--check" in sys.argv else link_terms(notebook["cells"], own)
        if "--check" not in sys.argv:
            for cell, name in zip(notebook["cells"], cell_ids(notebook["cells"]), strict=True):
                cell["id"] = name
            path.write_text(json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if left:
        print("not linked: " + ", ".join(f"{term.unit}: {term.name}" for term in left))
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
