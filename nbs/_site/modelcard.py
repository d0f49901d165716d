"""The model card, made from the records in results/; what no record tells is left out.

python nbs/_site/modelcard.py prints the card's numbers as plain text, for facekp/weights/default.onnx.txt.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

from lessons import ROOT, page_about

DEPLOY = ROOT / "results" / "deploy"
DEFAULT = ROOT / "facekp" / "weights" / "default.onnx"
METRICS = {"rmse": "RMSE, px", "mae": "MAE, px", "nme_eye_centers": "NME (eye centres)", "nme_outer_eye_corners": "NME (outer eye corners)", "pck": "PCK", "auc": "AUC", "failure_rate": "failures"}
SHARES = ("nme_eye_centers", "nme_outer_eye_corners", "pck", "auc", "failure_rate", "accuracy")
HEADINGS = {"name": "", "rmse": "RMSE, px", "interval": "95% interval", "bytes": "MB", "size_bytes": "MB", "size": "MB", "megabytes": "MB", "mb": "MB", "ms": "ms a face",
            "milliseconds": "ms a face", "ms_a_face": "ms a face", "milliseconds_a_face": "ms a face", "median_ms": "ms a face, median", "best_ms": "ms a face, best", "load_ms": "ms to load", "load_seconds": "s to load", "n_faces": "faces",
            "largest_difference": "largest difference to Keras, px", "max_difference": "largest difference to Keras, px",
            "largest_difference_px": "largest difference to Keras, px", "rmse_px": "RMSE, px", "mean_difference": "mean difference, px",
            "error_against_keras": "error against Keras", "worse_by": "px worse", "by_seed": "px worse, each seed"}
SETTINGS = {"bend": "most that the handles of a copy are pulled about, in px", "own": "share of the net's own answers in the marks of frames, in the third part and at the end",
            "decay": "decay of the weights of convolutions, a step at a learning rate of 1"}
COUNTS = {"n_train": "photographs to learn from", "n_validation": "to choose the best weights of all parts but its end by", "n_learned_at_the_end": "to learn from at the end, with those that chose", "n_test": "held out", "n_more": "frames of videos", "n_drawn": "drawn faces",
          "n_with_copies": "pictures with all augmented copies"}
GROUPINGS = {"source": "By source", "turn": "By head turn", "brightness": "By brightness", "keypoint": "By keypoint"}


def read_record(path: Path) -> dict:
    "A record, or an empty one where there is none that can be read."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {"rows": found} if isinstance(found, list) else {}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _interval(value: object, share: bool = False) -> str:
    "1.02–1.10, or nothing."
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))):
        return ""
    return "–".join(f"{end:.1%}" if share else f"{end:.2f}" for end in value)


def _shown(key: str, value: object) -> str:
    "A value as a table shows it."
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
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def rows_of(record: dict) -> list[dict]:
    "The rows that a record holds, whatever it calls them: a list of dicts, or a dict of dicts with the name put first."
    candidates = [value for key, value in record.items() if key not in ("data", "machine", "versions", "budget", "stages", "metrics", "by")] + [record]
    for value in candidates:
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return value
        if isinstance(value, dict) and len(value) > 1 and all(isinstance(row, dict) and any(map(_number, row.values())) for row in value.values()):
            return [{"name": name, **row} for name, row in value.items()]
    return []


def table(rows: list[dict], first: str, label: str) -> list[str]:
    "Rows as a table whose headings sort; what is neither a number, a word nor an interval is left out."
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
        texts[0] = _words(texts[0])
        body.append("<tr>" + "".join(f'<td data-value="{escape(str(at))}">{escape(text)}</td>' for at, text in zip(sort, texts)) + "</tr>")
    return [f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">', '<table class="sortable named">', f"<thead><tr>{head}</tr></thead>",
            "<tbody>", *body, "</tbody>", "</table>", "</div>", ""]


def metric_rows(metrics: dict) -> list[dict]:
    "The metrics with their intervals."
    intervals = metrics.get("intervals") or {}
    rows = [(key, name) for key, name in METRICS.items() if _number(metrics.get(key))]
    return [{"metric": name, "value": _shown(key, metrics[key]) if key in SHARES else f"{metrics[key]:.2f}", "interval": _interval(intervals.get(key), key in SHARES) or None}
            for key, name in rows]


def keypoint_rows(metrics: dict) -> list[dict]:
    "RMSE of every keypoint with its interval, worst last."
    errors = {name: value for name, value in (metrics.get("per_point") or {}).items() if _number(value)}
    intervals = metrics.get("intervals") or {}
    return [{"keypoint": name, "rmse": value, "interval": intervals.get(name)} for name, value in sorted(errors.items(), key=lambda item: item[1])]


def calibration_pairs(record: dict) -> list[tuple[float, float]]:
    "What the model expected to be off and what it was off, in px: from two lists, or from rows."
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


def calibration_chart(pairs: list[tuple[float, float]]) -> list[str]:
    "Expected against measured error as a picture that needs no program; the grey line is where both agree."
    pairs = sorted(pairs)
    top = max(max(pair) for pair in pairs) * 1.08
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if top / step <= 7 or step == 100)
    ticks = [step * k for k in range(int(top / step) + 1)]

    def x(value: float) -> float:
        return round(60 + 400 * value / top, 1)

    def y(value: float) -> float:
        return round(380 - 360 * value / top, 1)

    words = "; ".join(f"{expected:.1f} and {measured:.1f}" for expected, measured in pairs[:: max(1, len(pairs) // 6)])
    told = f"Expected error against measured error in pixels, on held-out faces; where a point lies on the line, both agree. From left to right: {words}."
    lines = ['<figure class="chart">', f'<svg viewBox="0 0 480 430" role="img" aria-label="{escape(told)}">',
             f'<path class="agree" d="M{x(0)} {y(0)}L{x(top)} {y(top)}"/>']
    for tick in ticks:
        lines += [f'<path class="grid" d="M{x(tick)} {y(0)}V{y(top)}M{x(0)} {y(tick)}H{x(top)}"/>',
                  f'<text x="{x(tick)}" y="400" text-anchor="middle">{tick:g}</text>', f'<text x="52" y="{y(tick) + 5}" text-anchor="end">{tick:g}</text>']
    lines += [f'<path class="line" d="M{"L".join(f"{x(a)} {y(b)}" for a, b in pairs)}"/>', *(f'<circle cx="{x(a)}" cy="{y(b)}" r="5"/>' for a, b in pairs),
              '<text x="260" y="424" text-anchor="middle">expected error, px</text>',
              '<text transform="translate(16 200) rotate(-90)" text-anchor="middle">measured error, px</text>', "</svg>",
              '<p class="caption">What the model expects to be off, and what it was off. On the dashed line both agree.</p>', "</figure>", ""]
    return lines


def _sentence(record: dict, names: dict[str, str]) -> str:
    "The plain values of a record as `name: value`, joined."
    parts = [f"{names.get(key, _words(key))}: {_shown(key, value)}" for key, value in record.items()
             if "sha256" not in key and (isinstance(value, (str, bool)) or _number(value)) and str(value)]
    return "; ".join(parts)


def about(path: Path = DEFAULT) -> dict:
    "What the shipped file says of itself, and its size."
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return {**session.get_modelmeta().custom_metadata_map, "bytes": path.stat().st_size}
    except Exception:  # a card without these lines is better than none
        return {}


def _training(default: dict) -> list[str]:
    "How it was trained and how to train it again."
    lines = ["## How to train it again", ""]
    if default.get("command"):
        lines += ["```bash", str(default["command"]).replace(" --", " \\\n    --"), "```", "",
                  "`make default-model FACES=... MORE=...` runs this, then the end once more with all photographs for the weights that ship, and writes both as ONNX files into `runs/default`.", ""]
    facts = []
    seconds = next((default[key] for key in ("seconds_in_all", "seconds") if _number(default.get(key))), None)
    if seconds is not None:
        facts.append(f"Its stages add up to {seconds / 3600:.1f} hours" + (f" on {default['machine'].get('cores')} cores ({default['machine'].get('processor', '')})"
                     if isinstance(default.get("machine"), dict) and default["machine"].get("cores") else "") + ".")
    if isinstance(default.get("budget"), dict) and default["budget"]:
        facts.append(f"Settings: {_sentence(default['budget'], SETTINGS)}.")
    lines += [" ".join(facts), ""] if facts else []
    second = default["mediapipe"] if isinstance(default.get("mediapipe"), dict) else {}
    if _number(second.get("rmse")):
        lines += ["What it learns is a mean of the marks and of a second opinion: the 478 points that MediaPipe's attention mesh (Apache-2.0) finds in the picture and in its mirror image, translated into these "
                  f"fifteen by a ridge regression on the photographs to learn from. On the faces kept out, that opinion alone is {second['rmse']:.2f} px off ({_interval(second.get('interval'))}), the mean of "
                  "twelve looks at each face. MediaPipe is needed for the training only, in a Python of its own.", ""]
    stages = [stage for stage in default.get("stages") or [] if isinstance(stage, dict)]
    if stages:
        lines += table(stages, _words(next(iter(stages[0]))), "Stages of the training")
    elif default.get("stages"):
        lines += [f"- {stage}" for stage in default["stages"]] + [""]
    if default.get("what_differs"):
        lines += [f"**Where the training that ships strayed from this command:** {default['what_differs']}", ""]
    return lines if len(lines) > 2 else []


def _parts(ablation: dict) -> list[str]:
    "What each part of the training is worth in a short one."
    lines = []
    for key, title, text in (("rows", "In its first part", "One part is left out, or another is put in its place, and nothing comes after the first part"),
                             ("rows_of_the_whole", "From beginning to end", "One of the later parts is left out of the whole training, made short")):
        rows = [row for row in ablation.get(key) or [] if _number(row.get("worse_by"))]
        if len(rows) > 1:
            shown = [{"without": row["meaning"], "rmse": row["rmse"], "worse_by": f"{row['worse_by']:+.3f}", "by_seed": ", ".join(f"{value:+.3f}" for value in row["worse_by_of_each_seed"]),
                      "images_shown": row["images_shown"]} for row in rows]
            lines += [f"### {title}", "", f"{text}; {len(rows[0]['seeds'])} seeds.", "", *table(shown, "left out", title)]
    if not lines:
        return []
    return ["## What its parts are worth", "",
            "Each row is a training of its own, measured on the photographs that choose the weights; the more a part adds to the error when it is left out, the more it is worth. These trainings are a "
            "fraction as long as the one that ships, and favour what is easy: strong copies and drawings seem to harm here, and in a training of full length the net with drawings was better than the one without (one seed)."
            + (f" Not run so: {', '.join(map(str, ablation['not_run']))}." if ablation.get("not_run") else "") + (f" {ablation['recipe']}." if ablation.get("recipe") else ""), "", *lines]


def _results(default: dict) -> list[str]:
    "Metrics on held-out faces: all, by group, by keypoint."
    metrics = default.get("metrics") if isinstance(default.get("metrics"), dict) else {}
    lines = []
    if metrics:
        faces = f" of {metrics['n_faces']:,} faces" if _number(metrics.get("n_faces")) else ""
        lines += ["## How well it does", "", f"On the held-out part{faces}, by a training that has not seen them; intervals are 95%, over photos. RMSE and MAE are in pixels of the 96x96 picture, NME is the mean distance as a share of the distance that its name gives (300-W divides by the outer eye corners), PCK the share of points "
                  "within a tenth of the distance between the eye centres. AUC is the area under the curve that says how many faces have an NME (eye centres) below a limit, up to a limit of 8%; failures are the faces beyond it.", "", *table(metric_rows(metrics), "metric", "All metrics")]
        mirrored = default.get("mirrored") if isinstance(default.get("mirrored"), dict) else {}
        if _number(mirrored.get("rmse")):
            lines += [f"With the mean of the answers for a face and for its mirror image, which takes twice as long, the RMSE is {mirrored['rmse']:.2f} px.", ""]
    by = default.get("by") if isinstance(default.get("by"), dict) else {}
    for key, groups in by.items():
        rows = [{"name": name, **row} for name, row in groups.items() if isinstance(row, dict)] if isinstance(groups, dict) else []
        if rows:
            lines += [f"### {GROUPINGS.get(key, 'By ' + _words(key))}", "", *table(rows, _words(key), GROUPINGS.get(key, key))]
    rows = keypoint_rows(metrics)
    return lines + (["### By keypoint", "", *table(rows, "keypoint", "By keypoint")] if rows else [])


def card_page() -> str:
    "The model card."
    default, calibration, formats, peers = (read_record(DEPLOY / f"{name}.json") for name in ("default", "calibration", "formats", "peers"))
    notes, lesson = about(), page_about("_applications", "library/inference/landmarker")
    lines = ["# Model card", "", "`default`, the model that comes with the package: fifteen points of a framed face, and how far off each may be.", ""]
    facts = [f"`facekp/weights/default.onnx`, {notes['bytes'] / 1e6:.2f} MB" if notes else "`facekp/weights/default.onnx`"]
    facts += [f"{_words(key)}: {notes[key]}" for key in ("version", "data", "license", "notes") if notes.get(key)]
    lines += ["; ".join(facts) + ". It takes grey faces of 96 x 96 pixels (float32, 0 to 255) and gives `points` [N, 15, 2] in pixels and `spread` [N, 15], the standard "
              "deviation that it expects of a coordinate.", "",
              "## What it is for, and what not", "",
              "For learning how facial keypoints are found, for research, and for play: centre of the eyes, corners of eyes and mouth, ends of the brows, tip of the nose, "
              "lips, in faces that look roughly at the camera.", "",
              "Not for telling who somebody is, what they feel, how old or how healthy they are: fifteen points say nothing about that. Not for decisions about "
              "people, for watching them, or where a mistake harms somebody. Not for medical measurement: it errs by a millimetre or two.", "",
              "## Data and their terms", ""]
    data = default["data"] if isinstance(default.get("data"), dict) else {}
    counts = [f"{data[key]:,} {meaning}" for key, meaning in COUNTS.items() if _number(data.get(key))]
    second = isinstance(default.get("mediapipe"), dict)
    lines += ["| faces | made by | terms |", "| --- | --- | --- |",
              "| HELEN, AFW | photos from the web, marked by the 300-W project | research only |",
              "| YouTube Faces | frames of videos, marked by a model | research only |",
              "| drawn faces | this package | anybody's to use and share |",
              *(["| answers of MediaPipe's attention mesh to all of these, mixed into the marks | a model that Google trained on faces of its own | the model is under Apache-2.0 |"] if second else []), "",
              "No picture of these data is in the package. Which of them the shipped version learned from, the file says itself"
              + (f" (`data`: {notes['data']})" if notes.get("data") else "") + "; a model made from data for research is for research, too.", "",
              *([f"In numbers: {', '.join(counts)}.", ""] if counts else []),
              "**Split.** Whole photographs, with all near copies of them, are on one side: "
              + (f"`{data['split'].split(': ')[0]}`" if isinstance(data.get("split"), str) else "`split_by_group(faces, test_share=0.2, seed=0)`")
              + ". The settings of the training were chosen on the photographs that choose the weights of all parts but its end, not on those held out. But these have been measured more than once: earlier versions, this "
              "one before the end of its training, the comparison's nets, the choice to compute in 8 bits, the spread and the tables below, so count on a little more error elsewhere. A score on the whole file flatters the "
              "model, since the shipped weights have learned from all of it. Frames of videos and drawn faces are only learned from.", ""]
    lines += _results(default)
    pairs = calibration_pairs(calibration)
    if pairs:
        lines += ["## How sure it is", "", "The spread of a point is the width of its heatmap, scaled by two numbers that were found on held-out faces; here each face's spread comes from "
                  "numbers found on the others. Points are put in order of what the model expected, and cut into groups of the same size.", "", *calibration_chart(pairs)]
        within = [(calibration.get(f"within_{name}"), share) for name, share in (("1_spread", "68%"), ("2_spreads", "95%"))]
        if all(_number(value) for value, _ in within):
            lines += [f"{within[0][0]:.0%} of the coordinates lie within one spread and {within[1][0]:.0%} within two; if errors were normally distributed, it would be "
                      f"{within[0][1]} and {within[1][1]}.", ""]
    for record, title, first, text in (
            (formats, "Formats", "format", "The net that was measured above in each format that `facekp export` writes, run by its own runtime."),
            (peers, "Beside others", "model", "On the same held-out faces, in one run; ours is the model trained without them. Points of other models were mapped to ours, and a constant offset was corrected on training faces.")):
        rows = rows_of(record)
        if rows:
            lines += [f"## {title}", "", text, "", *table(rows, first, title)]
    lines += ["## Limits", "",
              "- Faces that are cut, turned far to the side or only a few pixels wide are marked as uncertain; what a hand, a mask or hair hides is guessed.",
              "- Photos from the web show some people more often than others. How the error depends on skin, age or sex was not measured: the data do not say.",
              "- The marks of YouTube Faces were made by a model. Where it erred, ours learned its errors, and is praised for repeating them.",
              "- The points mean what 300-W's marks mean, put into Kaggle's names; Kaggle's own labels lie a little elsewhere. No number here can be compared with its leaderboard.",
              "- The spread is right on average over faces like these; for other pictures nobody has checked.", ""]
    lines += _training(default)
    lines += _parts(read_record(DEPLOY / "ablation.json"))
    lines += [f"[Prediction]({lesson}.ipynb) shows how a photo becomes such a face, and how the result is used." if lesson else "", ""]
    return "\n".join(lines)


def shipped_sentence() -> str:
    "The shipped model's error in a sentence; empty until there is a record of it."
    record = read_record(DEPLOY / "default.json")
    metrics = record.get("metrics") or {}
    if not (_number(metrics.get("rmse")) and _number(metrics.get("n_faces"))):
        return ""
    interval = _interval((metrics.get("intervals") or {}).get("rmse"))
    told = f"The shipped model: **{metrics['rmse']:.2f} px**{f' ({interval})' if interval else ''} on {metrics['n_faces']:,} held-out real faces"
    return told + (", measured with a model trained without them; the shipped weights were trained on them too" if len(record.get("stages") or []) and "ships" in str(record["stages"][-1].get("stage")) else "")


def card_text() -> str:
    "The card's numbers as plain text."
    default = read_record(DEPLOY / "default.json")
    metrics = default.get("metrics") or {}
    lines = [f"{row['metric']}: {row['value']}" + (f" ({row['interval']})" if row["interval"] else "") for row in metric_rows(metrics)]
    for key, groups in (default.get("by") or {}).items():
        lines += [f"{_words(key)} {name}: RMSE {row['rmse']:.2f} px {_interval(row.get('interval'))}" for name, row in groups.items() if isinstance(row, dict) and _number(row.get("rmse"))]
    return "\n".join(lines + ([f"Made again by: {default['command']}"] if default.get("command") else []))


if __name__ == "__main__":
    print(card_text())
    sys.exit(0)
