"Labels in other units, for images of another size, mirrored, or with codes for missing points are refused wherever labels are used; correct labels never are."

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekp.audit import audit, audit_points
from facekp.cli import main
from facekp.data.npz import save_npz
from facekp.data.sources import load_faces
from facekp.data.units import find_missing_codes, raise_units
from facekp.errors import UserError
from facekp.faces import Faces, concatenate
from facekp.jobs import evaluate, train
from facekp.keypoints import COLUMNS, FLIP_ORDER, MEAN_FACE
from facekp.synthetic.dataset import synthetic_training_set
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.synthetic.renderer import synthetic_faces

REAL = Path(os.environ.get("FACEKP_REAL_SETS", "no-such-folder"))  # photographs and labels that may not be redistributed; their tests run if the variable names their folder
FACES = synthetic_faces(120, seed=11, workers=1)
UNITS = {  # change of the labels -> the conversion in the message
    "fractions": (lambda p: p / 96, "points * 96"), "minus one to one": (lambda p: (p - 48) / 48, "points * 48 + 48"),
    "Udacity": (lambda p: (p - 100) / 50, "points * 50 + 100"), "Udacity, 224": (lambda p: (p * 224 / 96 - 100) / 50, "(points * 50 + 100) * 96 / 224"),
    "224": (lambda p: p * 224 / 96, "points * 96 / 224"), "250": (lambda p: p * 250 / 96, "points * 96 / 250"), "48": (lambda p: p / 2, "points * 96 / 48"),
    "64": (lambda p: p * 64 / 96, "points * 96 / 64"), "128": (lambda p: p * 128 / 96, "points * 96 / 128"), "112": (lambda p: p * 112 / 96, "points * 96 / 112"),
    "80": (lambda p: p * 80 / 96, "points * 96 / 80"),
    "y from the bottom": (lambda p: [0, 95] + p * [1, -1], "95 - y"), "x and y exchanged": (lambda p: p[..., ::-1], "points[..., ::-1]"),
    "names of left and right exchanged": (lambda p: p[:, FLIP_ORDER], "exchange the names of left and right"),
}


@pytest.fixture(scope="module")
def kaggle_folder(tmp_path_factory):
    "Return a folder of synthetic faces in Kaggle's format."
    return write_kaggle_folder(tmp_path_factory.mktemp("kaggle") / "own", 40, seed=3)


@pytest.mark.parametrize("unit", UNITS)
def test_other_units_are_refused_with_the_conversion(unit, tmp_path):
    "kind: 2 | what: labels in other units, for images of another size, or mirrored | gets: a one-line error with the unit, the range and the conversion"
    change, conversion = UNITS[unit]
    path = save_npz(replace(FACES, points=change(FACES.points).astype(np.float32), truth=None), tmp_path / "own.npz")
    with pytest.raises(UserError) as caught:
        load_faces(path)
    message = str(caught.value)
    assert conversion in message and "own.npz" in message and "\n" not in message


@pytest.mark.parametrize("unit", ["fractions", "224", "128"])
@pytest.mark.parametrize("count", [5, 40])
def test_commands_and_functions_refuse_labels_in_other_units(unit, count, tmp_path):
    "kind: 2 | what: a command or function receives labels in other units | gets: data, train, evaluate and audit refuse them with exit status 2 or UserError"
    changed = replace(FACES[:count], points=UNITS[unit][0](FACES.points[:count]).astype(np.float32), truth=None)
    for use in (audit, lambda faces: evaluate("default", faces), lambda faces: train("mean", tmp_path / "run", faces, profile="quick")):
        with pytest.raises(UserError, match="not in pixels"):
            use(changed)
    if count == 40:
        with pytest.raises(UserError, match="not in pixels"):
            audit_points(changed.points)
    path = save_npz(changed, tmp_path / "own.npz")
    for arguments in (["data", "info", str(path)], ["data", "check", str(path)], ["evaluate", "--data", str(path)], ["train", "--model", "mean", "--data", str(path), "--out", str(tmp_path / "run")]):
        assert main(arguments) == 2, arguments
    assert not (tmp_path / "run" / "record.json").exists()


def test_fit_refuses_labels_in_other_units():
    "kind: 2 | what: facekp.fit receives labels in other units | gets: UserError before the first step"
    from facekp.models.regression import build_mean
    from facekp.training.loop import fit

    with pytest.raises(UserError, match="training set.*points . 96"):
        fit(build_mean(FACES.points), replace(FACES, points=FACES.points / 96), FACES)


@pytest.mark.parametrize("code", [-1, 0, -999, 999, 255, 96])
def test_codes_for_missing_points_are_refused_with_the_conversion(code, kaggle_folder, tmp_path, capsys):
    "kind: 2 | what: missing points coded as -1, 0, -999 or another number | gets: an error with the count, the first row, and the conversion to NaN"
    points = FACES.points.copy()
    gone = np.random.default_rng(1).random((len(points), 15)) < 0.3
    points[gone] = code
    with pytest.raises(UserError, match=rf"\({code}, {code}\) stands for {gone.sum():,} points.*np.nan"):
        load_faces(save_npz(replace(FACES, points=points, truth=None), tmp_path / "own.npz"))
    table = pd.read_csv(kaggle_folder / "training.csv", dtype={"Image": str})
    table[list(COLUMNS)] = table[list(COLUMNS)].fillna(code)
    table.to_csv(tmp_path / "training.csv", index=False)
    assert main(["data", "check", str(tmp_path / "training.csv")]) == 2
    assert f"({code}, {code}) stands for" in capsys.readouterr().err


def test_codes_in_another_unit_are_reported_after_the_unit(tmp_path):
    "kind: 2 | what: fractions with missing points coded as -1 | gets: first an error about the unit, then, once it is corrected, about the codes"
    points = FACES.points / 96
    points[:, 5] = -1
    with pytest.raises(UserError, match="points . 96"):
        raise_units("x", points, FACES.images)
    mended = np.where(points == -1, -1, points * 96)
    with pytest.raises(UserError, match="stands for 120 points"):
        raise_units("x", mended, FACES.images)
    raise_units("x", np.where(mended == -1, np.nan, mended), FACES.images)


def test_a_part_of_a_set_in_another_unit_is_detected():
    "kind: 2 | what: two tables in different units appended, or flipped copies with the old names | gets: an error with the number of rows and the first of them"
    mixed = concatenate([FACES[:90], replace(FACES[90:], points=FACES.points[90:] / 96)])
    with pytest.raises(UserError, match=r"in 30 of 120 rows \(the first is row 90\)"):
        raise_units("x", mixed.points, mixed.images)
    flipped = replace(FACES, images=FACES.images[:, :, ::-1], points=(FACES.points * [-1, 1] + [95, 0]).astype(np.float32))  # left and right names not exchanged
    with pytest.raises(UserError, match="120 of 240 faces are mirror images of a face, the first is row 120"):
        both = concatenate([FACES, flipped])
        raise_units("x", both.points, both.images)
    right = replace(flipped, points=flipped.points[:, FLIP_ORDER])
    raise_units("x", right.points, right.images)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(-5, 5), st.floats(-0.3, 0.3), st.floats(-120, 120), st.floats(-120, 120), st.sampled_from([5, 20, 120]), st.booleans(), st.booleans())
def test_any_affine_change_is_refused_or_leaves_labels_near_the_truth(scale, stretch, x, y, count, mirrored, about_middle):
    "kind: 2 | what: any scaling, stretching, shift or mirroring of the labels | gets: an error, or every face within 6 px of the truth on average"
    factor = np.exp([scale / 3 + stretch, scale / 3 - stretch]) * [-1 if mirrored else 1, 1]
    shift = np.array([x, y]) / 20 + (48 * (1 - factor) if about_middle else 0)
    changed = FACES.points[:count] * factor + shift
    try:
        raise_units("x", changed, FACES.images[:count])
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert np.linalg.norm(changed - FACES.points[:count], axis=2).mean() < 6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 60]), st.floats(0, 180), st.floats(0.5, 1.5), st.floats(0, 12), st.floats(0, 0.8))
def test_correct_labels_of_any_crop_pass(seed, count, turn, scale, shift, missing):
    "kind: 2 | what: rotated, scaled and shifted copies with missing points, also sets of five faces | gets: no false alarm"
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(FACES), count)
    images, points = [], []
    for row in rows:
        matrix = cv2.getRotationMatrix2D((47.5, 47.5), rng.uniform(-turn, turn), scale * rng.uniform(0.9, 1.1))
        matrix[:, 2] += rng.uniform(-shift, shift, 2)
        images.append(cv2.warpAffine(FACES.images[row], matrix, (96, 96), borderMode=cv2.BORDER_REPLICATE))
        points.append(FACES.points[row] @ matrix[:, :2].T + matrix[:, 2])
    points = np.stack(points)
    points[rng.random((count, 15)) < missing] = np.nan
    raise_units("x", points, np.stack(images))


def test_data_sets_of_the_course_pass():
    "kind: 2 | what: the synthetic set with its two sources, gaps and wrong labels, also a small one | gets: no false alarm"
    faces = synthetic_training_set(400, seed=4)
    raise_units("x", faces.points, faces.images)
    raise_units("x", faces.points)
    for start in range(0, 400, 5):
        raise_units("x", faces.points[start:start + 5], faces.images[start:start + 5])


@pytest.mark.skipif(not REAL.is_dir(), reason="the photographs are not in the repository")
def test_real_sets_pass_as_a_whole_and_in_groups_of_five():
    "kind: 2 | what: six sets of photographs and Kaggle's label table | gets: no false alarm, for 7,049 rows and for any five"
    rng = np.random.default_rng(0)
    for path in sorted(REAL.glob("*.npz")):
        faces = load_faces(path)
        assert not find_missing_codes(faces.points).any()
        for _ in range(20):
            some = faces[rng.integers(0, len(faces), 5)]
            raise_units(path.name, some.points, some.images)
        with pytest.raises(UserError):
            raise_units(path.name, faces.points * 112 / 96, faces.images)
    points = pd.read_csv(REAL / "kaggle_training_labels.csv")[list(COLUMNS)].to_numpy().reshape(-1, 15, 2)
    for part in (points, points[:2284], points[2284:], *(points[rng.integers(0, len(points), 5)] for _ in range(300))):
        raise_units("Kaggle", part)
    with pytest.raises(UserError, match="96 / 112"):
        raise_units("Kaggle", points * 112 / 96)


def test_labels_without_enough_points_and_empty_sets_pass():
    "kind: 2 | what: no face, no label, one labelled point, or identical labels | gets: no error from the check"
    for points in (np.zeros((0, 15, 2)), np.full((4, 15, 2), np.nan), np.where(np.arange(15)[:, None] == 10, [48.0, 57.0], np.nan)[None], np.repeat(MEAN_FACE[None], 3, 0)):
        raise_units("x", points, np.zeros((len(points), 96, 96), np.uint8))
        raise_units("x", points)


def test_a_set_in_memory_is_checked_like_a_file():
    "kind: 2 | what: Faces made in Python | gets: the same error as for a file, with the name of the set"
    faces = Faces(FACES.images, FACES.points / 96, FACES.group, FACES.source, FACES.image_id, name="mine")
    with pytest.raises(UserError, match="^mine: the labels are not in pixels"):
        audit(faces)
