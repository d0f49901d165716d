"""Downloading Kaggle's files with kagglehub from a local stand-in of the service."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
from kaggle_stand_in import competition_zip, service

from facekp.data.kaggle_download import fetch_kaggle
from facekp.data.sources import load_faces
from facekp.errors import RunError, UserError

PROGRAM = """
import json, os, sys
from facekp.errors import RunError, UserError
from facekp.data.sources import load_faces
for step in json.loads(sys.argv[1]):
    os.environ.update(KAGGLE_API_TOKEN=step["token"], KAGGLEHUB_CACHE=step["cache"], http_proxy=step["proxy"])
    try:
        faces = load_faces("kaggle", data_folder=step["data"])
        print("done", len(faces), faces.name)
    except (UserError, RunError) as error:
        print(type(error).__name__, error)
    print(*sorted(os.listdir(step["data"])), flush=True)
"""
STEPS = (("signed out", ""), ("refused", "wrong"), ("rules", "rules"), ("down", "down"), ("no connection", "fine"), ("page", "page"),
         ("page again", "fine"), ("cut", "cut"), ("cut again", "fine"), ("cut and done", "fine"))
COMPLETE = {"training.csv", "test.csv", "IdLookupTable.csv"}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Fetch repeatedly in one process from the stand-in; return {step: (output, contents of the data folder)}, requests and folder.

    kagglehub is imported once, since that takes seconds. Steps whose names begin alike share a data folder.
    """
    home = tmp_path_factory.mktemp("home")
    keep = {name: value for name, value in os.environ.items() if not name.upper().startswith("KAGGLE") and "proxy" not in name.lower()}
    environment = keep | {"HOME": str(home), "USERPROFILE": str(home), "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    with service() as running:
        steps = [{"token": token, "data": str(home / name.split()[0]), "cache": str(home / f"cache-{name.split()[0]}"),
                  "proxy": "http://127.0.0.1:9" if name == "no connection" else running.address} for name, token in STEPS]
        result = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(steps)], env=environment, capture_output=True, text=True, timeout=120,
                                check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2 * len(STEPS), f"expected one line per step and nothing else on standard output: {result.stdout}"
    return {name: (lines[2 * index], lines[2 * index + 1]) for index, (name, _) in enumerate(STEPS)}, running.seen, home


@pytest.mark.parametrize(("step", "words"), [
    ("signed out", ["UserError kaggle: you are not signed in", "https://www.kaggle.com/settings", "KAGGLE_API_TOKEN"]),
    ("refused", ["UserError kaggle: Kaggle refused your token", "https://www.kaggle.com/settings"]),
    ("rules", ["UserError kaggle: ", "https://www.kaggle.com/competitions/facial-keypoints-detection/rules", "accept its rules", "run again"]),
    ("down", ["RunError kaggle: ", "error 503", "try again later", "facial-keypoints-detection/data"]),
    ("no connection", ["RunError kaggle: there is no connection", "run again"]),
    ("page", ["RunError kaggle: the downloaded archive was damaged and has been deleted", "run again"]),
    ("cut", ["RunError kaggle: the download was cut off in the middle", "run again to continue"]),
])
def test_what_does_not_work_says_what_to_do_and_leaves_nothing(fetched, step, words):
    said, lies_there = fetched[0][step]
    assert [word for word in words if word not in said] == []
    assert lies_there == ""


def test_the_next_run_goes_on_and_is_done(fetched):
    steps, seen, home = fetched
    assert steps["page again"] == steps["cut again"] == steps["cut and done"] == ("done 4 kaggle", "kaggle")
    assert {path.name for path in (home / "cut" / "kaggle").iterdir()} >= COMPLETE
    assert seen[-5:] == ["ask cut", "from 0", "ask fine", "from 0", f"from {1 << 20}"], "expected a request for the rest only"


def left_in(folder) -> list[str]:
    "List the contents of a folder, including hidden files."
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_without_kagglehub(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match=r"pip install 'facekp\[kaggle\]( @ git\+\S+)?'"):
        load_faces("kaggle", data_folder=tmp_path)
    assert left_in(tmp_path) == []


def test_full_disk_leaves_nothing(monkeypatch, tmp_path):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "came").mkdir()
    (tmp_path / "came" / "facial-keypoints-detection.zip").write_bytes(competition_zip())
    shutil.unpack_archive(tmp_path / "came" / "facial-keypoints-detection.zip", tmp_path / "came")
    monkeypatch.setattr("facekp.data.kaggle_download._download_competition", lambda: tmp_path / "came")
    monkeypatch.setattr(shutil, "copyfileobj", no_space)
    with pytest.raises((UserError, RunError), match="No space left on device"):
        fetch_kaggle(tmp_path / "data")
    assert left_in(tmp_path / "data") == []


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no training.csv"):
        fetch_kaggle(tmp_path)
    assert left_in(tmp_path / "kaggle") == ["notes.txt"]
