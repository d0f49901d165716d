"""Rules tested on random cases with a known answer: units of labels, value ranges, tables, folder contents, resumed settings.

Each case is accepted with the right result or refused by a one-line UserError; any other exception or result ends the run."""

import io
import json
import shutil
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaggle_stand_in import table_cells, table_text

from facekp.data.archives import reading
from facekp.data.checks import raise_images
from facekp.data.kaggle import _read_lookup
from facekp.data.kaggle_table import read_table
from facekp.data.units import raise_units
from facekp.data.w300 import _find_image, _find_pts_files
from facekp.errors import UserError
from facekp.images import read_image, read_images
from facekp.inference.sources import find_sources
from facekp.keypoints import COLUMNS
from facekp.run_folder import open_run
from facekp.synthetic.renderer import synthetic_faces

SEED = 20261127
FACES = synthetic_faces(40, seed=11, workers=1)
TABLE = table_text(table_cells(2)).encode()
LOOKUP = "RowId,ImageId,FeatureName,Location\n" + "".join(f"{row + 1},{row // 30 + 1},{COLUMNS[row % 30]},\n" for row in range(60))
BASE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (12, 24, 24), np.uint8).transpose(1, 2, 0), (0, 0), 2).transpose(2, 0, 1).astype(float)
BASE = np.round((BASE - BASE.min((1, 2), keepdims=True)) / np.ptp(BASE, axis=(1, 2), keepdims=True) * 255)  # every image spans 0 to 255


def units(rng, _) -> str:
    "Change labels by an affine map, without images: they are refused, or the faces stay near the position and size of the mean face."
    rows = rng.choice(40, rng.integers(30, 41), replace=False)
    size, stretch, shift = np.exp(rng.normal(0, rng.choice([0.05, 0.3, 2.0]))), np.exp(rng.normal(0, rng.choice([0.03, 0.3]))), rng.normal(0, rng.choice([3, 20, 100]), 2)
    points = FACES.points[rows].astype(float)
    changed = (points - 48 * (rng.random() < 0.7)) * [size * stretch, size / stretch] * [rng.choice([1, 1, 1, -1]), 1] + shift
    changed = changed + 48 * (rng.random() < 0.7)
    changed[rng.random(changed.shape[:2]) < rng.choice([0, 0.3])] = np.nan
    raise_units("labels", changed)
    away = np.nanmedian(np.linalg.norm(changed - points, axis=2))
    assert away < 16, f"labels {away:.1f} px from the truth were accepted"
    return "accepted"


def units_with_images(rng, _) -> str:
    "Change labels of five faces with images: they are refused, or within 6 px of the truth on average."
    rows = rng.choice(40, 5, replace=False)
    size, shift = np.exp(rng.normal(0, rng.choice([0.05, 0.3, 1.0]))), rng.normal(0, rng.choice([3, 20]), 2)
    changed = (FACES.points[rows] - 48) * size + 48 + shift
    raise_units("labels", changed, FACES.images[rows])
    away = np.linalg.norm(changed - FACES.points[rows], axis=2).mean()
    assert away < 6, f"labels {away:.1f} px from the truth were accepted"
    return "accepted"


def in_range(values: np.ndarray, rng) -> tuple[np.ndarray, bool]:
    "Bring grey values 0-255 into a random type and range; return also whether they must be accepted."
    way = rng.integers(0, 8)
    if way == 0:
        return (values / 255 * rng.uniform(0.5, 1.4)).astype(rng.choice(["f2", "f4", "f8"])), True
    if way == 1:
        return np.round(values / 255 * rng.choice([255, 1023, 4095, 16383, 65535])).astype(rng.choice(["u2", ">u2", "i4", "u8"])), True
    if way == 2:
        return (values * rng.uniform(0.1, 1.15)).astype(rng.choice(["f4", "f8"])), True
    if way == 3:
        return values * np.exp(rng.uniform(-9, 9)), False
    if way == 4:
        return values / 255 * rng.uniform(0.2, 4) - rng.uniform(0.05, 2), False
    if way == 5:
        changed = values / rng.choice([1, 255])
        changed[..., rng.integers(0, 24), 3] = rng.choice([np.nan, np.inf, -np.inf, -1e30, 1e30])
        return changed, False
    if way == 6:
        return (values.astype(int) - rng.integers(1, 300)).astype(rng.choice(["i2", "i4"])), False
    return (values / 255).astype(rng.choice(["u1", "i4", "?", "c8", "S3"])), False


def check_grey(found: np.ndarray, values: np.ndarray) -> None:
    "Fail if an accepted image lost its content: it must be a grey copy and not black."
    found, values = found.astype(float).ravel(), values.ravel()
    assert found.max() >= 15 and np.corrcoef(found, values)[0, 1] > 0.9, f"an image up to {found.max():.0f} was accepted"


def ranges(rng, _) -> str:
    "Pass read_image an array with a random range, type and layout."
    values = BASE[rng.integers(0, 12)]
    changed, must = in_range(values, rng)
    layout = rng.integers(0, 5)
    given = [changed, changed[..., None], np.repeat(changed[..., None], 3, -1), np.repeat(changed[None], 3, 0), changed[None]][layout]
    try:
        found = read_image(given, grey=True)
    except UserError:
        assert not must or layout > 2, f"a good image of {changed.dtype} up to {changed.max()} was refused"
        raise
    assert layout < 3, "a channel-first array was accepted"
    if changed.dtype == np.uint8:  # taken as it is
        return "accepted"
    check_grey(found, values)
    return "accepted"


def sets(rng, _) -> str:
    "Pass read_images a set with a random range and layout, of which some images may differ."
    rows = rng.choice(12, 4, replace=False)
    changed, must = in_range(BASE[rows], rng)
    mixed = rng.random() < 0.3 and changed.dtype.kind in "fui" and changed.dtype != np.uint8
    if mixed:
        changed, must = changed.astype(float), False
        changed[:2] = BASE[rows[:2]] / 255
        changed[2:] = BASE[rows[2:]] * rng.choice([1, 4, 16, 257])
    layout = rng.integers(0, 4)
    given = [changed, changed[..., None], np.repeat(changed[..., None], 3, -1), np.repeat(changed[:, None], 3, 1)][layout]
    try:
        found = read_images(given)
        raise_images("the set", found)
    except UserError:
        assert not must or layout == 3, f"a good set of {changed.dtype} up to {changed.max()} was refused"
        raise
    assert layout < 3 and not mixed, "a channel-first array or mixed ranges were accepted"
    for row, image in zip(rows, found):
        check_grey(image, BASE[row])
    return "accepted"


SAME = (lambda text: text.rstrip(b"\n"), lambda text: text.replace(b"\n", b",,\n"), lambda text: text + b",,,\n",
        lambda text: text.replace(b"\n", b"\n\n"), lambda text: text.split(b"\n", 1)[0].upper() + b"\n" + text.split(b"\n", 1)[1], lambda text: b"\n \n" + text, lambda text: text.replace(b"\n", b"\r\n"), lambda text: text + b"\x1a",
        lambda text: b"\xef\xbb\xbf" + text)  # applied in this order
OTHER = (lambda text: b"", lambda text: text.split(b"\n", 1)[0], lambda text: text.split(b"\n", 1)[1], lambda text: text.replace(b",", b";"), lambda text: text.decode("utf-8", "replace").encode("utf-16"),
         lambda text: text.replace(b"\n", b"\r"), lambda text: text.replace(b"nose_tip_x", b"nose"), lambda text: text[:len(text) // 3], lambda text: text.split(b"\n", 1)[0] + b"\n" + text)


def change_table(text: bytes, rng) -> tuple[bytes, bool | None]:
    "Rewrite a table as other programs do, or damage it; return the text, and whether it must be read (True), refused (False), or either (None)."
    from test_fuzz import spoil

    kind = rng.integers(0, 3)
    if kind == 0:
        for number in sorted(rng.choice(len(SAME), rng.integers(1, 3), replace=False)):
            text = SAME[number](text)
        return text, True
    return (OTHER[rng.integers(0, len(OTHER))](text), False) if kind == 1 else (spoil(text, rng), None)


def training_table(rng, _) -> str:
    "Read a changed training.csv: the same numbers and images, or a refusal or a list of problems."
    text, must = change_table(TABLE, rng)
    try:
        with reading("training.csv"):
            numbers, images, problems = read_table(io.BytesIO(text), COLUMNS, "training.csv")
    except UserError:
        assert must is not True, "a good table was refused"
        raise
    if must:
        assert not problems and np.array_equal(numbers, GOOD[0], equal_nan=True) and np.array_equal(images, GOOD[1])
    assert must is not False or problems, "another table was accepted"
    return "problems listed" if problems else "accepted"


def lookup_table(rng, folder) -> str:
    "Read a changed IdLookupTable.csv: the same rows, or a refusal."
    text, must = change_table(LOOKUP.encode(), rng)
    (folder / "IdLookupTable.csv").write_bytes(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _read_lookup(folder)
    except UserError:
        assert must is not True, "a good table was refused"
        raise
    assert must is not False, "another table was accepted"
    if must:
        assert found["RowId"].tolist() == list(range(1, 61)) and found["FeatureName"].tolist() == list(COLUMNS) * 2
    return "accepted"


JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", "._a.jpg", "._a.pts", "notes.txt", "a.xmp", "a.json", ".b.png", "a.jpg.aae", "a.pts~", "c.pdf", "x.zip", "IMG.CR2", "a", "a.csv")
FOLDERS = ("", "sub", "sub/deep", "__MACOSX", "@eaDir", ".thumbs", "$RECYCLE.BIN", "Thumbs", "a b")
HIDDEN = ("__MACOSX", "@eaDir", ".thumbs", "$RECYCLE.BIN")


def fill(folder: Path, rng) -> dict[str, set[str]]:
    "Put random photos, .pts files and other files into a folder; return what a reader should find."
    shutil.rmtree(folder / "own", ignore_errors=True)
    expected: dict[str, set[str]] = {"photos": set(), "marks": set()}
    for _ in range(rng.integers(0, 7)):
        place = FOLDERS[rng.integers(0, len(FOLDERS))]
        (folder / "own" / place).mkdir(parents=True, exist_ok=True)
        shown, name = place.split("/")[0] not in HIDDEN, "abc"[rng.integers(0, 3)]
        kind = rng.integers(0, 3)
        names = [JUNK[rng.integers(0, len(JUNK))]] if kind == 0 else [name + [".jpg", ".PNG", ".webp", ".Tif"][rng.integers(0, 4)]] if kind == 1 else [name + [".pts", ".PTS"][rng.integers(0, 2)], name + ".jpg"]
        for one in names:
            (folder / "own" / place / one).write_bytes(b"x")
            kind = "marks" if one.lower().endswith(".pts") else "photos" if one.lower().endswith((".jpg", ".png", ".webp", ".tif")) else ""
            if shown and kind and not one.startswith("."):
                expected[kind].add(str(Path(place) / one))
    (folder / "own").mkdir(exist_ok=True)
    return expected


def folders(rng, folder) -> str:
    "List a folder with random contents for prediction and for training: exactly the user's photos and .pts files."
    expected, own = fill(folder, rng), folder / "own"
    pts_files = list(_find_pts_files(own))
    assert {str(path.relative_to(own)) for path in pts_files} == expected["marks"]
    assert all(_find_image(path).is_file() for path in pts_files)
    try:
        found = find_sources([own])
    except UserError:
        assert not expected["photos"]
        raise
    assert {str(Path(one.path).relative_to(own)) for one in found} == expected["photos"] and len({one.name for one in found}) == len(found)
    return "accepted"


def resume(rng, folder) -> str:
    "Resume a run with changed settings: each difference is refused by name, except for a larger budget."
    settings = {"seed": 0, "labels": "masked", "model": "cnn", "batch_size": 32, "learning_rate": 0.001, "data": "ab12", "augment": 2, "heads": None, "loss": "masked_mse"}
    others = {"seed": [1, 2**31], "labels": ["knn", "MASKED", ""], "model": ["heatmap"], "batch_size": [31, 64], "learning_rate": [0.0011, 1], "data": ["ab13"], "augment": [0, 3], "heads": [1, 2], "loss": ["masked_mae"]}
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "record.json").write_text("{}")
    kept = json.dumps({"schema": 1, "settings": settings, "parts": [{"images": 300, "data": "a"}]})
    (run / "run.json").write_text(kept)
    changed = [name for name in settings if rng.random() < 0.1]
    now = settings | {name: others[name][rng.integers(0, len(others[name]))] for name in changed}
    images = int(rng.choice([300, 300, 301, 9000, 299, 1]))
    try:
        parts = open_run(run, now, {"images": images, "data": "a"}, True)
    except UserError as error:
        named = str(error).split("another run: ")[1]
        assert all(f"{name} " in named for name in changed) and (images < 300) == ("may only grow" in named) and (changed or images < 300), error
        assert (run / "run.json").read_text() == kept
        raise
    assert not changed and images >= 300 and [part["images"] for part in parts] == ([300] if images == 300 else [300, images]), "another run was resumed"
    return "accepted"


GOOD = read_table(io.BytesIO(TABLE), COLUMNS, "training.csv")
RULES = {  # name: (reader, rule, cases of the record)
    "units": ("facekp.data.units.raise_units", "units of labels", 20_000), "units_with_images": ("facekp.data.units.raise_units with images", "units of labels", 300),
    "ranges": ("facekp.images.read_image", "value ranges and layouts", 20_000), "sets": ("facekp.images.read_images", "value ranges and layouts of a set", 20_000),
    "training_table": ("facekp.data.kaggle_table.read_table", "tables of other programs", 20_000), "lookup_table": ("facekp.data.kaggle.load_kaggle_test", "tables of other programs", 20_000),
    "folders": ("folders of photos, for prediction and training", "folder contents", 20_000), "resume": ("facekp.run_folder.open_run", "resume with changed settings", 20_000)}


def fuzz_rule(name: str, count: int, folder: Path) -> dict:
    "Test a rule on random cases; return reader, rule and outcomes."
    row = {"reader": RULES[name][0], "rule": RULES[name][1], "cases": 0, "accepted": 0, "problems listed": 0, "refused": 0, "seed": SEED}
    started = time.perf_counter()
    for number in range(count):
        try:
            outcome = globals()[name](np.random.default_rng([SEED, number]), folder)
        except UserError as error:
            assert "\n" not in str(error), f"{name}, case {number}: {error}"
            outcome = "refused"
        except Exception as error:
            raise AssertionError(f"{name}, case {number}, seed {SEED}: {type(error).__name__}: {error}") from error
        row[outcome] += 1
        row["cases"] += 1
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


@pytest.mark.parametrize("name", RULES)
def test_rules_on_random_cases(name, tmp_path):
    "kind: 2 | what: random units, ranges, tables, folders and settings with a known answer | gets: the right result, or a one-line error"
    count = {"units_with_images": 20, "folders": 150, "resume": 150}.get(name, 400)
    row = fuzz_rule(name, count, tmp_path)
    assert row["cases"] == count and row["accepted"] > 0.02 * count and row["refused"] > 0.02 * count, row
