"""The page Prediction: measurements on whole photographs, in video and for the three uses, from the records in results/prediction/; measurements without a record are listed as missing."""

import json

from lessons import ROOT
from modelcard import read_record, table
from prediction_goals import Records, goal_rows, tried_lines
from record_words import CONDITIONS, in_terms

FOLDER = ROOT / "results" / "prediction"
PHOTOS = {"photos.json": "Photographs with their own landmarks", "photos_composed.json": "Real faces blended into images without faces", "photos_synthetic.json": "Synthetic faces in images without faces"}
PLANNED = {  # record: what it measures
    "photos.json": "faces found, error, false detections and time on whole photographs, compared with MediaPipe and dlib", "photos_composed.json": "the same with real faces blended into images without faces",
    "photos_synthetic.json": "the same with synthetic faces, which everyone can repeat", "confidence.json": "whether confidence is a probability, and how degraded photographs are flagged",
    "robustness.json": "faces found and flagged in degraded copies of the same scenes", "speed.json": "time per scene, and what was tried to reduce it",
    "tracking.json": "error in motion, jitter, ids and time per frame of video", "cuts.json": "track ids at cuts from one person to another", "uses.json": "alignment, head pose and expression measures on photographs"}
OF_FACES = ("found", "faces", "nme_own_percent", "nme_common_percent", "common")  # columns that mean nothing where there is no face
GOALS = {"error_percent": 0.3, "jitter_px": 0.05, "processor_ms_mean": 4.0}  # of tracking: at most
NEVER = ["The time of the current search on an idle machine.",
         "MediaPipe and dlib on the simulated videos of the tracking benchmark.",
         "Head pose compared with a measured ground truth: we have no such data, so the pose is compared with another estimate.",
         "Expression measures computed from 300-W's 68 points: our files contain only the fifteen mapped points."]


def prediction_records() -> dict[str, dict]:
    "Return the existing records by file name."
    return {name: record for name in PLANNED if (record := read_record(FOLDER / name))}


def unmeasured(records: dict[str, dict]) -> list[str]:
    "Return what was not measured, as a list."
    return [f"- {text[0].upper()}{text[1:]}: no record yet (`results/prediction/{name}`)." for name, text in PLANNED.items() if name not in records] + [f"- {text}" for text in NEVER]


def photo_lines(name: str, record: dict) -> list[str]:
    "Return the section on photographs: a table per kind of image, a row per method."
    timed = any("ms_median" in row for methods in record.get("tables", {}).values() for row in methods.values())
    lines = [f"## {PHOTOS[name]}", "", in_terms(f"A face counts as found with a {record.get('found_from', 'small error')}.") + f" The methods processed the same images in turn{', so compare the ratios of the times' if timed else '. Times are left out, since other programs used the cores'}. "
             "NME is the mean over the faces that a method found; common faces are those that all methods found.", ""]
    for kind, methods in record.get("tables", {}).items():
        kind_images, faceless = record.get("pictures", {}).get(kind), all(values.get("faces") == 0 for values in methods.values())
        lines += [f"### {kind[0].upper()}{kind[1:].replace('_', ' ')}" + (f" ({kind_images} images)" if kind_images else ""), "",
                  *table([{"method": method, **{key: value for key, value in values.items() if not (faceless and key in OF_FACES)}} for method, values in methods.items()], "method", f"{PHOTOS[name]}: {kind}")]
    absent = [name for name in ("mediapipe", "dlib") if not any(name in method.lower() for methods in record.get("tables", {}).values() for method in methods)]
    return [*lines, *([f"Not in this run: {', '.join(absent)}.", ""] if absent else []), *_made(record)]


def _made(record: dict) -> list[str]:
    "Return the command of a record."
    return [f"Made by `{record['command']}`.", ""] if "command" in record else []


def goal_lines(records: Records) -> list[str]:
    "Return the table of goals: measured value, met or not, how the measurement differs, record."
    rows = goal_rows(records)
    counts = {word: sum(row["met"] == word for row in rows) for word in ("yes", "no", "unknown")}
    return ["## Goals", "", f"Of {len(rows)} goals, {counts['yes']} are met in the measurements below and {counts['no']} are not" + (f"; {counts['unknown']} {'has' if counts['unknown'] == 1 else 'have'} no record" if counts["unknown"] else "") +
            ". The goals were set for whole photographs, which are not part of the repository. Most were therefore measured on other images, as the table states: *yes* and *no* hold for those images. Shares are compared where the numbers of faces differ.", "",
            *table([{"met there" if key == "met" else key: value for key, value in row.items()} for row in rows], "goal", "Goals of prediction: measured, met or not, record")]


def speed_lines(record: dict) -> list[str]:
    "Return the section on speed: times of each run, and the changes that were tried."
    rows = [{"method": method, "run": number, "search": in_terms(run["search"]) if method.startswith("facekp") else None, "scenes": run["scenes"], "cpu_ms_median": run["processor_ms_median"][method], "ms_median": run["ms_median"][method]}
            for number, run in enumerate(record["runs"], 1) for method in run["processor_ms_median"]]
    return ["## Speed", "", in_terms(f"{record['what'][0].upper()}{record['what'][1:]}. Compare the ratios within a run. {record['note'][0].upper()}{record['note'][1:]}."), "", *table(rows, "method", "Time per scene by run and method"),
            "These changes were tried, in this order:", "", *tried_lines(record), "", *_made(record)]


def robustness_lines(record: dict) -> list[str]:
    "Return the section on degraded scenes: a row per kind and method."
    rows = [{"kind": in_terms(kind), "method": method, **values} for kind, methods in record["tables"].items() for method, values in methods.items()]
    degradations = "; ".join(f"{kind}: {text}" for kind, text in record["spoils"].items())
    return ["## Degraded scenes", "", in_terms(f"{record['what'][0].upper()}{record['what'][1:]}. A face counts as found with a {record['found_from']}. The copies of a scene differ only in the degradation ({degradations})."), "",
            *table(rows, "kind", "Faces found and flagged in degraded scenes"),
            "We tried five changes for these cases. The confidence was fitted to faces with and without degradation; it replaces a rule of thumb that discarded good points. Images without a confident detection are "
            "searched in four orientations, then again in sharpened crops, and last at places to which the detector gives a low score. The limits of this last search were chosen on other faces, those of HELEN and AFW. Faces whose points are uncertain on one side are flagged. We did not train the detector: its weights come from MediaPipe.", "", *_made(record)]


def cut_lines(record: dict) -> list[str]:
    "Return the section on ids at cuts."
    rows = [{"cut": row["cut"], "videos": row["videos"], "new id": row["new_id"], "first frame: mean distance from a search of this frame alone, % of the interocular distance": round(row["distance_percent_mean"], 2)} for row in record["cuts"]]
    return ["## Ids at a cut", "", "A track id identifies one face within one shot. " + f"{record['what'][0].upper()}{record['what'][1:]}: the id must change at a cut and must not change without one.", "", *table(rows, "cut", "Ids at cuts"), *_made(record)]


def tracking_lines(record: dict) -> list[str]:
    "Return the section on tracking: motions and gaps of the simulated videos."
    motions = [{"motion": row["motion"], "error, % of interocular distance": round(row["error_percent"], 3), "unfiltered": round(row["error_percent_unfiltered"], 3),
                "ms per frame, median": round(row["processor_ms_median"], 2), "ms per frame, mean": round(row["processor_ms_mean"], 2),
                "frames without face": row["frames_without_face"], "ids per face, most": row["most_ids_per_face"]} for row in record["motions"]]
    still = next(row for row in record["motions"] if "jitter_px" in row)
    worst = {"error_percent": max(row["error_percent"] for row in record["motions"]), "jitter_px": still["jitter_px"],
             "processor_ms_mean": max(row["processor_ms_mean"] for row in record["motions"])}
    words = {"error_percent": "error in motion, % of the interocular distance", "jitter_px": "jitter at rest, px", "processor_ms_mean": "ms per frame of 640x480 with one face, mean"}
    goals = [{"measure": words[name], "goal, at most": goal, "measured, worst motion": round(worst[name], 3), "reached": bool(worst[name] <= goal)} for name, goal in GOALS.items()]
    gaps = [{"black frames": row["black_frames"], "faces": row["faces"], "id kept": row["id_kept"], "frames until found again, most": row["frames_until_found_most"]} for row in record["gaps"]]
    return ["## Tracking in video", "", f"Simulated videos: {record['data']['name']}. Times are processor times with one thread. Without the filter, the jitter is {still['jitter_px_unfiltered']:.3f} px.", "",
            *table(goals, "measure", "Goals of tracking"), *table(motions, "motion", "Tracking by motion"), *table(gaps, "black frames", "Ids across gaps"), *_made(record)]


def uses_lines(record: dict) -> list[str]:
    "Return the section on alignment, head pose and expression measures."
    rounded = lambda row: {key.replace("mean_absolute_difference", "mean absolute difference").replace("spread", "standard deviation"): round(value, 3) if isinstance(value, float) else value  # noqa: E731
                           for key, value in row.items() if not key.endswith("interval") or key == "mean_absolute_difference_interval"}
    words = {"displacement_px_of_112": "displacement, px in a chip of 112", "rotation_degrees": "rotation, degrees", "scale_share": "scale, as a share"}
    alignment = [{"measure": words[name], "mean": round(values["mean"], 3), "95th percentile": round(values["p95"], 3)} for name, values in record["alignment"].items()]
    return ["## Aligned chips, head pose and expression", "",
            f"{record['data']['faces']} of the {record['data']['total']} faces of `{record['data']['name']}`: {in_terms(record['data']['part'])}. The model's own error on them is {record['nme']:.1%} of the interocular "
            "distance (including the constant offset between annotation conventions).", "",
            "**Aligned chips.** Chips aligned by predicted points are compared with chips aligned by labels: the displacement of the five labelled points in a chip of 112 pixels, and the difference in rotation and scale.", "",
            *table(alignment, "measure", "Alignment"),
            f"**Head pose** in degrees, compared with the pose that MediaPipe {record['mediapipe']}'s Face Mesh (468 points, its canonical face) gives on the same images. Neither is the truth. The shipped model "
            "was trained on labels blended with predictions of MediaPipe's mesh, so part of the agreement may be a shared error.", "",
            *table([rounded(row) for row in record["pose"]], "angle", "Head pose against MediaPipe"),
            "**Expression measures** of the predicted points, compared with the same measures of the labels, in interocular distances.", "",
            *table([rounded(row) for row in record["expression"]], "measure", "Expression measures"),
            "Fifteen points cannot show blinking or eye opening (there is no point on an eyelid), gaze (the eye centre is not the pupil), the inner edge of the lips, frowning, or emotions.", "", *_made(record)]


def confidence_lines(record: dict) -> list[str]:
    "Return the section on the reliability of confidence and on degraded photographs."
    reliability = [{"share with a small error" if key == "right" else key: value for key, value in row.items()} for row in record["reliability_test"]]
    kinds = [{"kind": CONDITIONS.get(kind, kind), **values} for kind, values in record.get("by_kind_test", {}).items()]
    return ["## Confidence", "", f"{in_terms(record['what'])}.", "", *table(reliability, "confidence from", "Reliability of confidence"), *table(kinds, "kind", "Degraded images"), *_made(record)]


def install_lines(record: dict) -> list[str]:
    "Return the size of the base installation."
    largest = [f"{name} {package['files'] / 1e6:.0f} MB" for name, package in list(record["packages"].items())[:4]]
    return ["## Installation", "", f"Prediction needs the base installation only. On Python {record['python']} its files take {record['megabytes_of_files']:.0f} MB, without pip: {', '.join(largest)} and {len(record['packages']) - 4} smaller packages. "
            f"The bytecode that Python writes next to them adds {record['megabytes_of_bytecode']:.0f} MB.", "", f"`{record['command']}`", ""]


def older_lines(records: dict[str, dict]) -> list[str]:
    "Return which records were made with an earlier version of the model, if any."
    by_version: dict[int, list[str]] = {}
    for name, record in records.items():
        if "model_version" in record:
            by_version.setdefault(record["model_version"], []).append(f"`{name}`")
    return [line for version, names in sorted(by_version.items())
            for line in (f"**Earlier model.** Version {version} of the model was measured in {', '.join(names)}; these measurements were not repeated with the model shipped now.", "")]


def prediction_page() -> str:
    "Return the page."
    records = prediction_records()
    lines = ["# Prediction", "", "This page shows how accurate and how fast `facekp predict` and `facekp.track` are. All numbers come from the records in `results/prediction/`, and each section names the script that made them. The "
             "photographs are not part of the repository.", ""]
    lines += older_lines(records)
    lines += goal_lines(records)
    for name in PHOTOS:
        lines += photo_lines(name, records[name]) if name in records else []
    for name, section in (("speed.json", speed_lines), ("robustness.json", robustness_lines), ("confidence.json", confidence_lines), ("tracking.json", tracking_lines), ("cuts.json", cut_lines), ("uses.json", uses_lines)):
        lines += section(records[name]) if name in records else []
    if install := read_record(ROOT / "results" / "benchmarks" / "install.json"):
        lines += install_lines(install)
    return "\n".join([*lines, "## Not measured", "", *unmeasured(records), ""])


if __name__ == "__main__":
    print(prediction_page() if prediction_records() else json.dumps({}))
