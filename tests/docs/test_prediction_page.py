"""The page Prediction agrees with its records and lists what was not measured."""

import json
import re
import sys
from html import escape
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

import prediction_page
from prediction_goals import GOALS, goal_rows
from prediction_page import prediction_records, tracking_lines, unmeasured

RECORDS = prediction_records()


def test_the_page_shows_each_record_and_lists_the_others():
    page = prediction_page.prediction_page()
    assert {"tracking.json", "uses.json"} <= RECORDS.keys()
    for row in RECORDS["tracking.json"]["motions"]:
        assert f">{row['motion']}</td>" in page and f'data-value="{round(row["error_percent"], 3)}"' in page
    for row in RECORDS["uses.json"]["pose"] + RECORDS["uses.json"]["expression"]:
        assert f'data-value="{round(row["correlation"], 3)}"' in page
    missing = page.split("## Not measured")[1]
    assert all((f"results/prediction/{name}" in missing) == (name not in RECORDS) for name in prediction_page.PLANNED)
    assert "blinking" in page and "{" not in page, "a value is shown as Python prints it"


def test_the_size_of_the_base_installation_is_that_of_its_packages():
    record = json.loads((ROOT / "results" / "benchmarks" / "install.json").read_text())
    for kind in ("files", "bytecode"):
        assert abs(record[f"megabytes_of_{kind}"] - sum(package[kind] for package in record["packages"].values()) / 1e6) < 0.1
    assert record["megabytes_of_files"] <= 450 and f"{record['megabytes_of_files']:.0f} MB, without pip: opencv-python-headless" in prediction_page.prediction_page()


def test_a_goal_that_is_missed_is_shown_as_missed():
    record = json.loads(json.dumps(RECORDS["tracking.json"]))
    reached = lambda: re.findall(r">(yes|no)</td></tr>", "".join(tracking_lines(record)))[:3]  # noqa: E731
    record["motions"][1] |= {"error_percent": 0.29, "processor_ms_mean": 3.9}
    record["motions"] = [record["motions"][0] | {"jitter_px": 0.04, "error_percent": 0.1, "processor_ms_mean": 1.0}, record["motions"][1]]
    assert reached() == ["yes", "yes", "yes"]
    record["motions"][1]["error_percent"] = 0.31
    assert reached() == ["no", "yes", "yes"]


def test_each_goal_is_judged_by_its_record():
    rows = {row["goal"]: row for row in goal_rows(RECORDS)}
    assert len(rows) == len(GOALS) and all((row["met"] == "unknown") == (goal.record not in RECORDS) for goal, row in zip(GOALS, rows.values()))
    page = prediction_page.prediction_page().split("## Goals")[1].split("\n## ")[0]
    assert all(f">{escape(row['measured'])}</td>" in page for row in rows.values())
    changed = json.loads(json.dumps(RECORDS))
    changed["photos_composed.json"]["tables"]["collages, 17 px between the eyes"]["facekp"]["found"] = 60  # of 60
    for run in changed["speed.json"]["runs"]:
        run["processor_ms_median"] |= {"facekp": 40.0, "facekp, min_face_size=0.1": 8.0, "MediaPipe FaceMesh": 10.0}
        run["ms_median"] |= {"facekp": 40.0, "facekp, min_face_size=0.1": 8.0, "MediaPipe FaceMesh": 10.0}
    changed["tracking.json"]["gaps"][-1]["id_kept"] -= 1
    before, after = ({goal.text: row["met"] for goal, row in zip(GOALS, goal_rows(records))} for records in (RECORDS, changed))
    turned = {text: (before[text], after[text]) for text in before if before[text] != after[text]}
    assert turned == {GOALS[0].text: ("no", "yes"), GOALS[2].text: ("no", "yes"), GOALS[3].text: ("no", "yes"), "tracking: an id survives 10 lost frames": ("yes", "no")}
    assert all(row["met"] == "unknown" and row["measured"] == "not measured" for row in goal_rows({}))


def test_the_counts_of_degraded_scenes_are_those_of_their_scenes():
    if record := RECORDS.get("robustness.json"):
        for methods in record["tables"].values():
            assert all(row["found_flagged"] <= row["found"] <= row["scenes"] and row["false_unflagged"] <= row["false"] for row in methods.values())


def test_tables_of_photographs_have_a_row_per_method(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_page, "FOLDER", tmp_path)
    assert prediction_records() == {} and len(unmeasured({})) == len(prediction_page.PLANNED) + len(prediction_page.NEVER)
    (tmp_path / "photos.json").write_text(json.dumps({"schema": 1, "data": None, "seconds": None, "machine": None, "versions": None, "command": "python x.py",
                                                      "found_from": "mean error is under 0.3", "pictures": {"whole": 150}, "tables": {"whole": {"facekp": {"found": 149, "ms": 31.5}, "MediaPipe": {"found": 150, "ms": 9.0}}}}))
    page = prediction_page.prediction_page()
    assert "Whole (150 images)" in page and ">149</td>" in page and ">MediaPipe</td>" in page and "Not in this run: dlib." in page and "python x.py" in page


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_say_how_they_were_made(name):
    assert RECORDS[name]["command"].startswith("python ") and not re.search(r"/(?:tmp|work|root|home)/", json.dumps(RECORDS[name]))
