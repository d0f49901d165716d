"The comparison as tables for the site, made from results/grid_table and results/full/*."

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd
from lessons import ROOT, page_about
from record_words import in_terms

from facekp.evaluation import METRICS
from facekp.experiments.results import read_study
from facekp.experiments.statistics import select_configurations
from facekp.models.registry import list_models, model_spec
from facekp.tables import to_markdown

MAIN = ROOT / "results" / "grid_table"  # the comparison that start page, claims and talk quote
RANDOM_GAPS = ROOT / "results" / "full" / "helen_afw_96"
WITH_FRAMES = RANDOM_GAPS.with_name("helen_afw_96_npz_youtube_faces_96")
TITLES = {MAIN: "HELEN, AFW and LFPW, gaps in the table's order", RANDOM_GAPS: "HELEN and AFW, gaps in random rows",
          WITH_FRAMES: "HELEN, AFW and frames of YouTube Faces, gaps in random rows"}
MODELS = {name: model_spec(name).title for name in list_models()}
METRIC_COLUMNS = [(name, metric.heading, metric.meaning, lambda text, metric=metric: metric.format(float(text))) for name, metric in METRICS.items() if metric.tabulated]
COLUMNS = (  # key of table.csv, heading, what it means, how a value is shown
    ("model", "model", "", str),
    ("labels", "labels", "label strategy: how missing labels were handled", str),
    ("augment", "copies", "augmented copies per training face", str),
    METRIC_COLUMNS[0],
    ("interval", "95% CI", f"of the {METRIC_COLUMNS[0][1]} over photos; sorts by its lower end", lambda text: "–".join(f"{float(end):.2f}" for end in text.split())),
    *METRIC_COLUMNS[1:],
    ("faces", "faces", "training faces with augmented copies", lambda text: f"{int(text):,}"),
    ("parameters", "parameters", "parameters of the network", lambda text: f"{int(text):,}"),
    ("seconds", "seconds", "to train on 2 cores", lambda text: f"{float(text):,.0f}"),
    ("seeds", "seeds", "training runs averaged in this row", str),
)


def text_table(rows: Sequence[tuple[str, ...]], columns: Sequence[str]) -> str:
    "Return rows of text as a Markdown table."
    return to_markdown(pd.DataFrame(rows, columns=list(columns)), text_columns=columns)


def read_table(folder: Path) -> list[dict]:
    "Return the rows of a comparison, best first."
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        return [row | {"interval": f"{row['low']} {row['high']}"} for row in csv.DictReader(file)]


def counts(folder: Path) -> dict:
    "Return how many faces a comparison used for training, validation and test."
    return read_study(folder).meta["data"]


def caption(folder: Path) -> str:
    "Return a sentence on where the numbers of a comparison come from."
    data = counts(folder)
    return (f"{len(read_table(folder))} configurations, {data['n_train']:,} training faces, {data['n_test']:,} test faces; 95% CI over photos. "
            "Press a heading to sort.")


def sortable_table(folder: Path) -> str:
    "Return a comparison as a sortable HTML table."
    rows = read_table(folder)
    shown = [column for column in COLUMNS if column[0] in rows[0]]
    head = "".join(f'<th scope="col"{" aria-sort=ascending" if key == "rmse" else ""}>'
                   f'<button type="button"{f" title={chr(34)}{escape(meaning)}{chr(34)}" if meaning else ""}>{escape(name)}</button></th>'
                   for key, name, meaning, _ in shown)
    body = "\n".join("<tr>" + "".join(f'<td data-value="{escape(row[key].split()[0] if row[key] else "")}">{escape(show(row[key])) if row[key] else "–"}</td>'
                                      for key, _, _, show in shown) + "</tr>" for row in rows)
    name = escape(TITLES[folder])
    return (f'<p class="caption">{escape(caption(folder))}</p>\n<div class="scroll" tabindex="0" role="region" aria-label="{name}">\n<table class="sortable">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>")


def best_rows(folder: Path) -> list[dict]:
    "Return one row per model, smallest error first: the configuration with the lowest validation RMSE, so that nothing is chosen on the test set."
    rows = {(row["model"], row["labels"], int(row["augment"])): row for row in read_table(folder)}
    best = select_configurations(read_study(folder), pd.DataFrame([{"model": model, "labels": labels, "augment": augment, "rmse": float(row["rmse"])}
                                                                    for (model, labels, augment), row in rows.items()]))
    return [rows[model, labels, augment] for model, labels, augment in best[["model", "labels", "augment"]].itertuples(index=False)]


def best_bars(folder: Path) -> str:
    "Return the best row of each model as a bar chart."
    rows = best_rows(folder)
    widest = max(float(row["rmse"]) for row in rows)
    lines = []
    for row in rows:
        augmented = "augmented" if int(row["augment"]) else "not augmented"
        lines.append(f'<tr><th scope="row">{escape(MODELS.get(row["model"], row["model"]))}</th>'
                     f'<td class="bar"><span style="width:{float(row["rmse"]) / widest:.0%}"></span></td>'
                     f'<td class="number">{float(row["rmse"]):.2f} px</td><td class="note">{escape(row["labels"])}, {augmented}</td></tr>')
    head = '<thead class="unseen"><tr><th>model</th><th>bar</th><th>RMSE</th><th>labels</th></tr></thead>'
    return f'<table class="bars">\n{head}\n<tbody>\n' + "\n".join(lines) + "\n</tbody>\n</table>"


def comparison_page() -> str:
    "Return the page with every comparison."
    lesson = f"[the lesson on the comparison]({page_about('_comparison', 'library/experiments/statistics')}.ipynb)"
    text = ["# Comparison", "", "Each table compares models and label strategies, with and without augmentation. Within a table, all models share one split and",
            f"one test set of real faces, and each model has one budget of images. [Results](results.ipynb) gives the conclusions, and {lesson} explains the method.", ""]
    for folder, title in TITLES.items():
        text += [f"## {title}", "", sortable_table(folder), ""]
        if missing := in_terms((folder / "not_run.md").read_text(encoding="utf-8").strip()):
            text += ["### What was not run", "", missing, ""]
    return "\n".join(text)
