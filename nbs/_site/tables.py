"The comparison as tables for the site, made from results/full/*/table.csv and the records beside it."

import csv
import json
from html import escape
from pathlib import Path

from lessons import ROOT, lesson_paths

FULL = ROOT / "results" / "full"
MAIN = "helen_afw_96"  # the data set that the start page quotes
TITLES = {"helen_afw_96": "HELEN and AFW: 1,188 photos", "helen_afw_96_npz_youtube_faces_96": "HELEN and AFW, with frames of YouTube Faces"}
MODELS = {"mean": "the mean face", "baseline": "two dense layers", "cnn": "convolutional net", "heatmap": "heatmap net", "compact": "the net that ships",
          "nouri2014": "Nouri's net of 2014", "naimishnet": "NaimishNet of 2017", "mobilenetv2": "MobileNetV2", "resnet50": "ResNet50", "efficientnetb7": "EfficientNetB7"}
COLUMNS = (  # key of table.csv, heading, what it means, how a value is shown
    ("model", "model", "", str),
    ("labels", "labels", "how missing labels were repaired", str),
    ("augment", "copies", "augmented copies a training face", str),
    ("rmse", "RMSE, px", "root mean squared error in pixels", lambda text: f"{float(text):.2f}"),
    ("interval", "95% interval", "of the RMSE, px; sorts by its lower end", lambda text: "–".join(f"{float(end):.2f}" for end in text.split())),
    ("mse", "MSE, px²", "mean squared error in square pixels", lambda text: f"{float(text):.2f}"),
    ("accuracy", "'accuracy'", "what Keras calls accuracy; no measure of error", lambda text: f"{float(text):.1%}"),
    ("nme", "NME", "mean distance as a share of the distance between the eyes", lambda text: f"{float(text):.1%}"),
    ("pck", "PCK", "share of points within a tenth of the distance between the eyes", lambda text: f"{float(text):.1%}"),
    ("faces", "faces", "training faces, augmented copies counted", lambda text: f"{int(text):,}"),
    ("weights", "weights", "numbers that the model learns", lambda text: f"{int(text):,}"),
    ("seconds", "seconds", "to train on 2 cores", lambda text: f"{float(text):,.0f}"),
    ("seeds", "seeds", "trainings of this row", str),
)


def read_table(folder: Path) -> list[dict]:
    "The rows of a comparison, best first."
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        return [row | {"interval": f"{row['low']} {row['high']}"} for row in csv.DictReader(file)]


def comparison_folders() -> list[Path]:
    "The comparisons that were recorded, the one of the start page first."
    return sorted((path.parent for path in FULL.glob("*/table.csv")), key=lambda path: (path.name != MAIN, path.name))


def title_of_comparison(folder: Path) -> str:
    "A heading for a comparison."
    return TITLES.get(folder.name, folder.name.replace("_", " "))


def counts(folder: Path) -> dict:
    "How many faces a comparison's records learned from and held out."
    return json.loads(next(iter(sorted(folder.glob("*-seed*.json")))).read_text(encoding="utf-8"))["data"]


def caption(folder: Path) -> str:
    "A sentence on where the numbers of a comparison come from."
    data = counts(folder)
    return (f"{len(read_table(folder))} ways of training, {data['n_train']:,} faces to learn from, {data['n_test']:,} held out; "
            "intervals are 95%, over photos. Press a heading to sort.")


def sortable_table(folder: Path) -> str:
    "A comparison as an HTML table whose headings are buttons that sort."
    rows = read_table(folder)
    shown = [column for column in COLUMNS if column[0] in rows[0]]
    head = "".join(f'<th scope="col"{" aria-sort=ascending" if key == "rmse" else ""}>'
                   f'<button type="button"{f" title={chr(34)}{escape(meaning)}{chr(34)}" if meaning else ""}>{escape(name)}</button></th>'
                   for key, name, meaning, _ in shown)
    body = "\n".join("<tr>" + "".join(f'<td data-value="{escape(row[key].split()[0] if row[key] else "")}">{escape(show(row[key])) if row[key] else "–"}</td>'
                                      for key, _, _, show in shown) + "</tr>" for row in rows)
    name = escape(title_of_comparison(folder))
    return (f'<p class="caption">{escape(caption(folder))}</p>\n<div class="scroll" tabindex="0" role="region" aria-label="{name}">\n<table class="sortable">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>")


def validation_error(folder: Path, row: dict) -> float:
    "The error of a row's trainings on the faces that chose their weights, in px, mean over seeds."
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"{row['model']}-{row['labels']}-augment{row['augment']}-seed*.json")]
    return sum(min(entry["validation_rmse"] for entry in record["history"]) for record in records) / len(records)


def best_rows(folder: Path) -> list[dict]:
    "One row a model, smallest error first: the repair and the augmentation that were best on the validation faces, so that the held-out ones chose nothing."
    best = {}
    for row in sorted(read_table(folder), key=lambda row: validation_error(folder, row)):
        best.setdefault(row["model"], row)
    return sorted(best.values(), key=lambda row: float(row["rmse"]))


def best_bars(folder: Path) -> str:
    "The best row of every model as bars."
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
    "The page with every comparison."
    lesson = next((f"[the lesson on the comparison](lessons/{path.name})" for path in lesson_paths() if path.stem.endswith("_compare")), "the lesson on the comparison")
    text = ["# Comparison", "", "Every model, every repair of the missing labels, with and without augmentation: one split, one budget of",
            f"images a model, scored on the same held-out real faces. [What we found](results.ipynb) says what follows from it, and {lesson} how it was made.", ""]
    for folder in comparison_folders():
        text += [f"## {title_of_comparison(folder)}", "", sortable_table(folder), ""]
        if (folder / "not_run.md").is_file():
            text += ["### What was not run", "", (folder / "not_run.md").read_text(encoding="utf-8").strip(), ""]
    return "\n".join(text)
