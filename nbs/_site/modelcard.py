"""The model card, made from the records in results/; sections without a record are left out.

python nbs/_site/modelcard.py prints the card's numbers as plain text, for facekp/weights/default.onnx.txt.
"""

import io
import math
import re
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from lessons import ROOT, page_about
from record_words import CONDITIONS, PARTS, in_terms
from tables import text_table

from facekp.errors import UserError
from facekp.evaluation import METRICS
from facekp.experiments.measurement import read_measurement
from facekp.experiments.results import Study, has_study, read_study

if TYPE_CHECKING:
    import pandas as pd

DEPLOY = ROOT / "results" / "deploy"
ABLATIONS = (ROOT / "results" / "default_stage_3", ROOT / "results" / "default_ablation")
COMPLETE = "nothing left out"
DEFAULT = ROOT / "facekp" / "weights" / "default.onnx"
OMITTED = ("mse", "accuracy")  # the square of the RMSE, and not a measure of error
SHARES = (*(name for name, metric in METRICS.items() if metric.share), "within_1_sigma", "within_2_sigma", "flagged", "hidden_part")
HEADINGS = {"name": "", "nme_own_percent": "NME, %", "nme_common_percent": "NME of common faces, %", "common": "common faces", "false": "false",
            "false_unflagged": "false, no flag", "ms_median": "ms, median", "cpu_ms_median": "processor ms, median", "rmse": "RMSE, px", "interval": "95% CI", "bytes": "MB", "size_bytes": "MB", "size": "MB", "megabytes": "MB", "mb": "MB", "ms": "ms per face",
            "milliseconds": "ms per face", "ms_a_face": "ms per face", "milliseconds_a_face": "ms per face", "median_ms": "ms per face, median", "best_ms": "ms per face, best", "load_ms": "ms to load", "load_seconds": "s to load", "n_faces": "faces",
            "largest_difference": "largest difference to Keras, px", "max_difference": "largest difference to Keras, px",
            "largest_difference_px": "largest difference to Keras, px", "rmse_px": "RMSE, px", "mean_difference": "mean difference, px",
            "error_against_keras": "error against Keras", "sigma": "sigma, px (root mean square)", "within_1_sigma": "within one sigma", "within_2_sigma": "within two sigma", "worse_by": "increase, px", "by_seed": "increase by seed, px", "rmse_degraded": "RMSE of degraded faces, px",
            "error_of_labels": "error of labels, px", "error_of_model": "error of the model, px", "error_of_second_labels": "error of Kaggle's labels, px", "interval_of_labels": "95% CI", "interval_of_model": "95% CI", "interval_of_second_labels": "95% CI"}
SETTINGS = {"warp": "largest local warp, px", "occluded": "share of the strong copies that are partly occluded", "plain": "share of the copies of stage 1 by the plain recipe",
            "weight_decay": "weight decay of the convolutions, per step at a learning rate of 1", "dtype": "precision"}
COUNTS = {"n_train": "training photographs", "n_validation": "validation photographs", "n_test": "test photographs", "n_with_copies": "images with all augmented copies"}
SOURCES = {"photographs": "photographs in the final stage (training and validation)", "portraits": "portraits", "web": "soft web photographs", "frames": "video frames", "synthetic": "synthetic faces"}
CHART_COLORS = {"#0072b2": "var(--bar)", "#202020": "currentColor", "#c9d3da": "var(--line)"}  # drawn colour: colour of the page, light or dark
CONDITION_KEYS = ("rmse", "interval", "sigma", "within_1_sigma", "within_2_sigma", "flagged", "hidden_part", "images")
GROUPINGS = {"source": "By source", "turn": "By head turn", "brightness": "By brightness", "keypoint": "By keypoint"}


def read_record(path: Path) -> dict:
    "Return a record, or an empty dictionary if it is missing or cannot be read."
    try:
        return read_measurement(path)
    except UserError:
        return {}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _interval(value: object, share: bool = False) -> str:
    "Return an interval as 1.02–1.10, or an empty text."
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))):
        return ""
    return "–".join(f"{end:.1%}" if share else f"{end:.2f}" for end in value)


def _shown(key: str, value: object) -> str:
    "Return a value as a table shows it."
    if isinstance(value, (list, tuple)):
        return _interval(value) or ", ".join(map(str, value))
    if isinstance(value, bool) or value is None or not _number(value):
        return {True: "yes", False: "no", None: ""}.get(value, str(value)) if not isinstance(value, str) else value
    if "bytes" in key and "mega" not in key or key == "size" and value > 1000:
        return f"{value / 1e6:.2f}"
    if key == "error_against_keras":
        return f"{value:+.1%}"
    if key in SHARES or key.endswith("_share"):
        return f"{value:.1%}"
    return str(value) if key == "seed" else f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def rows_of(record: dict) -> list[dict]:
    "Return the rows of a record, whatever their key: a list of dicts, or a dict of dicts with the name first."
    candidates = [value for key, value in record.items() if key not in ("data", "machine", "versions", "budget", "stages", "metrics", "by")] + [record]
    for value in candidates:
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return value
        if isinstance(value, dict) and len(value) > 1 and all(isinstance(row, dict) and any(map(_number, row.values())) for row in value.values()):
            return [{"name": name, **row} for name, row in value.items()]
    return []


def table(rows: list[dict], first: str, label: str) -> list[str]:
    "Return rows as a sortable table; values other than numbers, words and intervals are left out."
    plain = [{key: value for key, value in row.items() if value is None or isinstance(value, (str, bool)) or _number(value) or _interval(value)} for row in rows]
    keys = list(dict.fromkeys(key for row in plain for key in row if not key.endswith("sha256")))
    if not keys:
        return []
    head = "".join(f'<th scope="col"><button type="button">{escape(first if n == 0 else HEADINGS.get(key, _words(key)))}</button></th>' for n, key in enumerate(keys))
    body = []
    for row in plain:
        values = [row.get(key) for key in keys]
        sort = [value[0] if isinstance(value, (list, tuple)) else "" if value is None else value for value in values]
        texts = [_shown(key, value) or "–" for key, value in zip(keys, values)]
        texts[0] = texts[0] if "=" in texts[0] else _words(texts[0])  # an argument, such as min_face_size=0.1, keeps its name
        body.append("<tr>" + "".join(f'<td data-value="{escape(str(at))}">{escape(text)}</td>' for at, text in zip(sort, texts)) + "</tr>")
    return [f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">', '<table class="sortable named">', f"<thead><tr>{head}</tr></thead>",
            "<tbody>", *body, "</tbody>", "</table>", "</div>", ""]


def metric_rows(metrics: dict) -> list[dict]:
    "Return the metrics with their intervals."
    intervals = metrics.get("intervals") or {}
    return [{"metric": metric.heading, "value": metric.format(metrics[name]), "interval": _interval(intervals.get(name), metric.share) or None}
            for name, metric in METRICS.items() if name not in OMITTED and _number(metrics.get(name))]


def keypoint_rows(metrics: dict) -> list[dict]:
    "Return the RMSE of each keypoint with its interval, worst last."
    errors = {name: value for name, value in (metrics.get("per_point") or {}).items() if _number(value)}
    intervals = metrics.get("intervals") or {}
    return [{"keypoint": name, "rmse": value, "interval": intervals.get(name)} for name, value in sorted(errors.items(), key=lambda item: item[1])]


def calibration_pairs(record: dict) -> list[tuple[float, float]]:
    "Return pairs of expected and measured error in px, from two lists or from rows."
    expected, measured = ("predicted", "expected", "spread", "predicted_px", "spread_px"), ("measured", "error", "real", "actual", "observed", "rmse", "measured_px", "error_px")
    for holder in (record, *(value for value in record.values() if isinstance(value, dict))):
        lists = [next((holder[name] for name in names if isinstance(holder.get(name), list)), None) for names in (expected, measured)]
        if all(lists) and len(lists[0]) == len(lists[1]) and all(map(_number, lists[0] + lists[1])):
            return list(zip(*lists))
    pairs = []
    for row in rows_of(record):
        found = [next((row[name] for name in names if _number(row.get(name))), None) for names in (expected, measured)]
        pairs += [tuple(found)] if None not in found else []
    return pairs


def _draw_calibration(pairs: list[tuple[float, float]]) -> str:
    "Draw measured over expected errors as SVG with the colours of CHART_COLORS."
    import matplotlib
    import seaborn as sns
    from matplotlib.figure import Figure

    bar, ink, line = CHART_COLORS
    inked = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    top = max(max(pair) for pair in pairs) * 1.08
    file = io.StringIO()
    with matplotlib.rc_context({**inked, "svg.fonttype": "none", "svg.hashsalt": "calibration", "font.size": 12, "grid.color": line}):
        figure = Figure(figsize=(5, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.grid()
        axes.axline((0, 0), slope=1, color=ink, linestyle="--", linewidth=1.5)
        sns.lineplot(x=[expected for expected, _ in pairs], y=[measured for _, measured in pairs], estimator=None, marker="o", markersize=8, markeredgewidth=0, color=bar, ax=axes)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal", xlabel="expected error, px", ylabel="measured error, px")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def calibration_chart(pairs: list[tuple[float, float]]) -> list[str]:
    "Return a chart of expected against measured error as SVG in the colours of the page; on the dashed line both agree."
    pairs = sorted(pairs)
    words = "; ".join(f"{expected:.1f} and {measured:.1f}" for expected, measured in pairs[:: max(1, len(pairs) // 6)])
    told = f"Expected error against measured error in pixels, on test faces; on the line both agree. From left to right: {words}."
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", _draw_calibration(pairs), flags=re.DOTALL)  # a style within the drawing would apply to the whole page
    for fixed, of_page in CHART_COLORS.items():
        drawn = drawn.replace(fixed, of_page)
    box = re.search(r'viewBox="[^"]+"', drawn).group()
    body = " ".join(drawn[drawn.index(">", drawn.index("<svg")) + 1:].split())  # an empty line would end the HTML block
    return ['<figure class="chart">', f'<svg {box} role="img" aria-label="{escape(told)}">{body}',
            '<p class="caption">Expected against measured error. On the dashed line both agree.</p>', "</figure>", ""]


def _sentence(record: dict, names: dict[str, str]) -> str:
    "Return the plain values of a record as `name: value`, joined."
    parts = [f"{names.get(key, _words(key))}: {_shown(key, value)}" for key, value in record.items()
             if "sha256" not in key and (isinstance(value, (str, bool)) or _number(value)) and str(value)]
    return "; ".join(parts)


def about(path: Path = DEFAULT) -> dict:
    "Return the notes stored in the shipped file, and its size."
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return {**session.get_modelmeta().custom_metadata_map, "bytes": path.stat().st_size}
    except Exception:  # a card without these lines is better than no card
        return {}


def _training(default: dict) -> list[str]:
    "Return how the model was trained and how to retrain it."
    lines = ["## How to retrain it", "", "`make default-model PHOTOGRAPHS=... PORTRAITS=... WEB=... FRAMES=...` trains the model without the test set, measures it, and writes it as an ONNX file to "
             "`runs/default`. For a product, use photographs whose terms allow it; see `recipes/default/README.md`.", ""]
    if default.get("command"):
        lines += ["The record of the shipped model contains this command:", "",
                  "```bash", str(default["command"]).replace(" --", " \\\n    --"), "```", ""]
    facts = []
    if _number(default.get("seconds")):
        facts.append(f"Its stages took {default['seconds'] / 3600:.1f} hours in total" + (f" on {default['machine'].get('cores')} cores ({default['machine'].get('processor', '')})"
                     if isinstance(default.get("machine"), dict) and default["machine"].get("cores") else "") + ".")
    if isinstance(default.get("budget"), dict) and default["budget"]:
        facts.append(f"Settings: {_sentence(default['budget'], SETTINGS)}.")
    lines += [" ".join(facts), ""] if facts else []
    second = default["mediapipe"] if isinstance(default.get("mediapipe"), dict) else {}
    if _number(second.get("rmse")):
        lines += ["The training labels are blended with MediaPipe predictions: MediaPipe Attention Mesh (Apache-2.0) predicts 478 points in the image and in its mirror image, and a ridge regression fitted on the training "
                  f"photographs maps them to the fifteen keypoints. On the test faces, these predictions alone have an RMSE of {second['rmse']:.2f} px (95% CI {_interval(second.get('interval'))}; "
                  "six predictions each for the image and its mirror image, of which five are averaged). Only training needs MediaPipe, in a separate environment.", ""]
    stages = [stage for stage in default.get("stages") or [] if isinstance(stage, dict)]
    if stages:
        lines += table(stages, "stage", "Stages of training")
    elif default.get("stages"):
        lines += [f"- {stage}" for stage in default["stages"]] + [""]
    if default.get("what_differs"):
        lines += [f"**Differences between the shipped model's training and this command.** {in_terms(default['what_differs'])}", ""]
    return lines if len(lines) > 2 else []


def _parts(studies: list[Study]) -> list[str]:
    "Return the ablation: the effect of each part of the recipe in short runs."
    lines: list[str] = []
    for study in studies:
        runs = study.runs if "stages" in study.runs else study.runs.assign(stages=study.meta["data"].get("stages"))  # one value for all runs is stored once
        lines += [study.meta["note"], ""] if "note" in study.meta else []
        for stages, title, text in (("stage 1", "Stage 1 alone", "One part is left out or replaced, and training ends after stage 1"),
                                    ("stage 3", "Stage 3 alone", "Stage 3 of the present recipe, which continues from the finished stage 2 of version 8, whose images are counted too; one part of stage 3 is replaced"),
                                    ("all stages", "All stages, shortened", "One of the later parts is left out")):
            lines += _ablation_table(runs[runs.stages == stages], title, text)
    missing = dict.fromkeys(re.split(r",| \(", words)[0] for part, words in PARTS.items() if not any(part in set(study.runs.part) for study in studies))
    return ["## Ablation", "",
            "Each row is a separate training run, scored on the validation set: the increase in RMSE is what the part is worth. These runs are much shorter than that of the shipped model, and short runs favour "
            "easy training data. Strong augmentation and synthetic faces seem to hurt in the runs of version 6's recipe, but at full length the network trained with synthetic faces was better than the one without (one seed)."
            + (f" Not run in this way: {', '.join(missing)}." if missing else ""), "", *lines]


def _ablation_table(runs: "pd.DataFrame", title: str, text: str) -> list[str]:
    "Return the table of one group of runs; empty without runs to compare."
    by_seed = runs.pivot(index="part", columns="seed", values="rmse")
    if len(by_seed) < 2:
        return []
    increase = by_seed - by_seed.loc[COMPLETE]
    degraded = runs.groupby("part").rmse_degraded.mean() if "rmse_degraded" in runs and runs.rmse_degraded.notna().all() else {}
    shown = [{"without": PARTS.get(part, part), "rmse": by_seed.loc[part].mean(), "worse_by": f"{increase.loc[part].mean():+.3f}", "by_seed": ", ".join(f"{value:+.3f}" for value in increase.loc[part]),
              **({"rmse_degraded": degraded[part]} if part in degraded else {}), "images_shown": int(runs.images_shown[runs.part == part].iloc[0])} for part in (COMPLETE, *PARTS) if part in by_seed.index]
    return [f"### {title}", "", f"{text}; {by_seed.shape[1]} seeds.", "", *table(shown, "left out or replaced", title)]


def _results(default: dict) -> list[str]:
    "Return metrics on test faces: all, by group, by keypoint."
    metrics = default.get("metrics") if isinstance(default.get("metrics"), dict) else {}
    lines = []
    if metrics:
        faces = f" of {metrics['n_faces']:,} faces" if _number(metrics.get("n_faces")) else ""
        lines += ["## Results", "", f"Measured in Keras on the test set{faces}, on which the model was not trained; 95% CI over photos. The shipped file stores its weights in 8 bits; its error on the photographs of HELEN and AFW is listed under *Other models*. RMSE and MAE are in pixels of the 96x96 image. NME is the mean distance divided by the length in its name (300-W divides by the distance between the outer eye corners). PCK is the share of keypoints "
                  "within a tenth of the distance between the eye centres. AUC is the area under the CED curve of NME eye centres up to 8%; failures are the faces beyond 8%.", "", *table(metric_rows(metrics), "metric", "All metrics")]
        mirrored = default.get("mirrored") if isinstance(default.get("mirrored"), dict) else {}
        if _number(mirrored.get("rmse")):
            lines += [f"Averaging the predictions for a face and its mirror image doubles the time and gives an RMSE of {mirrored['rmse']:.2f} px{', so the shipped model does not do it' if mirrored['rmse'] >= metrics.get('rmse', 0) else ''}.", ""]
    by = default.get("by") if isinstance(default.get("by"), dict) else {}
    for key, groups in by.items():
        rows = [{"name": in_terms(name), **row} for name, row in groups.items() if isinstance(row, dict)] if isinstance(groups, dict) else []
        if rows:
            lines += [f"### {GROUPINGS.get(key, 'By ' + _words(key))}", "", *table(rows, _words(key), GROUPINGS.get(key, key))]
    rows = keypoint_rows(metrics)
    return lines + (["### By keypoint", "", *table(rows, "keypoint", "By keypoint")] if rows else [])


def _conditions(record: dict) -> list[str]:
    "Return error and sigma on degraded faces, and how often images without a usable face are flagged."
    if not record:
        return []
    rows = [{"condition": CONDITIONS[kind], "model": _words(model.removesuffix(".onnx")), **{key: values[key] for key in CONDITION_KEYS if key in values}}
            for kind in CONDITIONS for model, by_kind in record["conditions"].items() if (values := by_kind.get(kind))]
    return ["## Degraded faces", "", f"{record['data']['faces']} test photographs of LFPW, on which neither version was trained, degraded in six ways, and images that are no usable face: upside-down faces, negatives, and crops "
            f"of {record['faceless_images']} images without a face. Hidden points count too. A face is flagged if its mean sigma is larger than that of 95% of the unchanged faces; it seems to have a hidden part if at least four keypoints are much less certain than usual (`facekp.inference.confidence.has_hidden_part`).", "",
            *table(rows, "condition", "Degraded faces"), f"Made by `{record['command']}`.", ""]


def _limits(record: dict) -> list[str]:
    "Return the RMSE of averaged and combined predictions on the validation set."
    if not record:
        return []
    return ["## What limits the error", "", "We measured on the validation set how much better predictions become by averaging. The network is the one before the final stage, which was not trained on these "
            f"{record['data']['faces']} faces. MediaPipe's model was trained on other data. Averaging removes errors that differ between crops or between models. "
            "The rest is common to both models, or is disagreement with the annotators. It is largest at the ends of the brows.", "", *table([{"prediction": row["prediction"], **{in_terms(key): value for key, value in row.items() if key != "prediction"}}
            for row in record["predictions"]], "prediction", "What limits the error"),
            *_label_errors(record), f"Made by `{record['command']}`.", ""]


def _label_errors(record: dict) -> list[str]:
    "Return how far the labels themselves are off, as estimated with a third set of points."
    lines = ["How far are the labels themselves off? Compare three sets of points of the same faces: labels, predictions, and points by another annotator or model. If their errors are independent, the errors follow from the "
             "three mean squared differences.", ""]
    if record.get("annotators"):
        network = record["annotators"][0]
        share = network["error_of_labels"] ** 2 / (network["error_of_labels"] ** 2 + network["error_of_model"] ** 2)
        rows = [{"model": row["model"], "faces": row["faces"], **{key: value for who in ("labels", "model", "second_labels") for key, value in ((f"error_of_{who}", row[f"error_of_{who}"]), (f"interval_of_{who}", row[f"interval_of_{who}"]))}}
                for row in record["annotators"]]
        lines += [f"Kaggle's annotators also labelled {network['faces']} of these photographs of LFPW. Their labels are the third set of this table. The two crops of a photograph differ, so the shift, rotation and scale of each face are left out. "
                  f"About {share:.0%} of the network's squared error comes from the labels; a perfect network would still have that part.", "",
                  *table([{in_terms(key): value for key, value in row.items()} for row in rows], "model", "Errors of labels, models and Kaggle's labels, estimated, in pixels")]
    return lines + ["In the next table, MediaPipe's predictions are the third set. Their errors are not independent of the network's, which was trained on labels blended with them, so this estimate for the labels is too large.", "",
                    *table(record["errors"], "source", "Errors of labels and models, estimated with MediaPipe, in pixels")]


def card_page() -> str:
    "Return the model card."
    default, calibration, formats, peers = (read_record(DEPLOY / f"{name}.json") for name in ("default", "calibration", "formats", "peers"))
    notes, lesson = about(), page_about("_applications", "library/inference/landmarker")
    lines = ["# Model card", "", "`default`, the model that comes with the package. It predicts fifteen keypoints of a cropped face, and an expected error for each.", ""]
    facts = {"file": "`facekp/weights/default.onnx`" + (f", {notes['bytes'] / 1e6:.2f} MB" if notes else "")}
    facts |= {_words(key).replace("license", "licence"): in_terms(notes[key]) for key in ("version", "data", "license", "notes") if notes.get(key)}
    facts |= {"input": "grey faces of 96x96 pixels, float32, 0 to 255", "outputs": "`points` [N, 15, 2] in pixels, and `sigma` [N, 15], the expected standard deviation of a coordinate"}
    lines += [text_table(list(facts.items()), ("", "")), "",
              "## Intended use", "",
              "Teaching, research and private projects. The model finds eye centres, corners of eyes and mouth, ends of the brows, nose tip and lips in roughly frontal faces.", "",
              "Do not use it to identify people or to infer emotion, age or health: fifteen points support no such conclusion. Do not use it for decisions about "
              "people, for surveillance, or where an error could harm someone. It is not accurate enough for medical measurement: errors are a millimetre or two.", "",
              "## Training data and terms", ""]
    data = default["data"] if isinstance(default.get("data"), dict) else {}
    counts = [f"{data[key]:,} {meaning}" for key, meaning in COUNTS.items() if _number(data.get(key))]
    second = isinstance(default.get("mediapipe"), dict)
    counts += [f"{data['n_by_source'][key]:,} {meaning}" for key, meaning in SOURCES.items() if key in data.get("n_by_source", {})]
    sources = [("HELEN, AFW, LFPW: photographs from the web", "the 300-W project", "research only"), ("SCUT-FBP5500: portraits", "annotators, in another convention, without the nose tip", "research only, non-commercial"),
               ("MTFL: soft web photographs", "annotators, five keypoints", "research only"), ("YouTube Faces: video frames", "a model", "research only"), ("synthetic faces", "exact, from this package", "free to use and share"),
               *([("all photographs and frames", "blended with predictions of MediaPipe Attention Mesh, which Google trained on its own data", "the model is under Apache-2.0")] if second else [])]
    lines += [text_table(sources, ("data", "labels", "terms")), "",
              "The package contains no images from these data sets. Weights trained on data for research only are for research only."
              + (" The metadata in the file list the data of the shipped version." if notes.get("data") else ""), "",
              *([f"In numbers: {', '.join(counts)}.", ""] if counts else []),
              "**Split.** A photograph and its near duplicates are in the same set: a fifth of the photographs of HELEN and AFW and an eighth of those of LFPW form the test set, and 15% of the others the validation set"
              + (f" (`{data['split'].partition(': ')[2].partition(':')[0]}`)" if isinstance(data.get("split"), str) else "")
              + ". Hyperparameters were chosen on the validation set. The test set measured this model once, after training. Before, it had measured a shorter run of the same recipe, and after it another run, which is not shipped. Its photographs of HELEN and AFW "
              "have also measured earlier versions and the networks of the comparison. It also calibrates sigma and appears in the tables below. Portraits, web photographs and video frames are used for training only; near duplicates of test photographs were removed from them.", ""]
    lines += [*_results(default), *_limits(read_record(DEPLOY / "limits.json"))]
    pairs = calibration_pairs(calibration)
    if pairs:
        lines += ["## Calibration of sigma", "", "Sigma is computed from the width of a keypoint's heatmap with two coefficients per keypoint, fitted on the test set by cross-validation: the sigma of each face comes from "
                  "coefficients fitted on the others. Keypoints are sorted by sigma and divided into groups of equal size.", "", *calibration_chart(pairs)]
        within = [(calibration.get(f"within_{name}"), share) for name, share in (("1_sigma", "68%"), ("2_sigma", "95%"))]
        if all(_number(value) for value, _ in within):
            lines += [f"{within[0][0]:.0%} of the coordinates are within one sigma and {within[1][0]:.0%} within two; for normally distributed errors it would be "
                      f"{within[0][1]} and {within[1][1]}.", ""]
    lines += _conditions(read_record(DEPLOY / "conditions.json"))
    for record, title, first, text in (
            (formats, "Formats", "format", "The model measured above in each format that `facekp export` writes, opened in its own runtime."),
            (peers, "Other models", "model", "On the test faces of HELEN and AFW, in one run. Our model was not trained on them. The points of other models were mapped to ours, and a constant offset was corrected on training faces. dlib's landmark model was not run.")):
        rows = rows_of(record)
        if rows:
            lines += [f"## {title}", "", text, "", *table(rows, first, title)]
    lines += ["## Limits", "",
              "- Faces that are cut off or a few pixels wide are flagged, and so are most strongly turned faces. The position of a hidden keypoint is a guess.",
              "- Photographs from the web do not represent all people equally. The error by skin tone, age or sex was not measured, because the data have no such labels.",
              "- The labels of YouTube Faces were predicted by a model, and ten of the fifteen keypoints of MTFL and the nose tip of SCUT-FBP5500 by another, so our model was also trained on their errors.",
              "- The keypoints follow the annotation convention of 300-W under Kaggle's names. Kaggle's labels follow others, so no number here can be compared with its leaderboard.",
              "- Sigma is calibrated on faces like these; on other images it may be wrong.", ""]
    lines += _training(default)
    lines += _parts([read_study(folder) for folder in ABLATIONS if has_study(folder)]) if any(map(has_study, ABLATIONS)) else []
    lines += [f"[Unit 12]({lesson}.ipynb) shows how faces are cropped from a photo and how results are used." if lesson else "", ""]
    return "\n".join(lines)


def shipped_sentence() -> str:
    "Return the shipped model's error in a sentence; empty if there is no record of it."
    record = read_record(DEPLOY / "default.json")
    metrics = record.get("metrics") or {}
    if not (_number(metrics.get("rmse")) and _number(metrics.get("n_faces"))):
        return ""
    compared = read_record(DEPLOY / "peers.json")
    peers = compared.get("models") or {}
    n_faces = compared["data"]["faces"] if "facekp default" in peers else metrics["n_faces"]
    own = peers.get("facekp default") or {"rmse": metrics["rmse"], "interval": (metrics.get("intervals") or {}).get("rmse")}  # the shipped file, or the model in Keras
    interval, other = _interval(own.get("interval")), peers.get("MediaPipe face_landmark")
    told = f"The shipped model: **{own['rmse']:.2f} px**{f' ({interval})' if interval else ''} on {n_faces:,} real test faces"
    told += f"; MediaPipe's face_landmark: {other['rmse']:.2f} px" if other else ""
    return told + ". The model was not trained on these faces"


def card_text() -> str:
    "Return the card's numbers as plain text."
    default = read_record(DEPLOY / "default.json")
    metrics = default.get("metrics") or {}
    lines = [f"{row['metric']}: {row['value']}" + (f" ({row['interval']})" if row["interval"] else "") for row in metric_rows(metrics)]
    for key, groups in (default.get("by") or {}).items():
        lines += [f"{_words(key)} {name}: RMSE {row['rmse']:.2f} px {_interval(row.get('interval'))}" for name, row in groups.items() if isinstance(row, dict) and _number(row.get("rmse"))]
    return "\n".join(lines + ([f"Command of the record: {default['command']}"] if default.get("command") else []))


if __name__ == "__main__":
    print(card_text())
    sys.exit(0)
