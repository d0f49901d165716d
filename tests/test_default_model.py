"The copies that the shipped model learns from: points go where the picture goes."

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facekp.core import concatenate
from facekp.draw import draw_faces

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "default_model.py"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # it imports its neighbour
    specification = importlib.util.spec_from_file_location("default_model", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn():
    return draw_faces(4, seed=0)


def dot(at):
    "A soft bright dot on black."
    y, x = np.mgrid[:96, :96]
    return (255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 8)).astype(np.uint8)


def center(image, near):
    "The centre of mass of the part of a picture within 9 px of a place, without what is beyond the picture's border."
    y, x = np.mgrid[:96, :96]
    mass = image * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < 81.0)
    return np.array([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


def test_a_dot_and_its_point_are_bent_and_moved_to_one_place(script):
    rng = np.random.default_rng(0)
    far = []
    for _ in range(100):
        angle, scale = rng.normal(0, 0.2), np.exp(rng.normal(0, 0.08))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = 47.5 - turn @ [47.5, 47.5] + rng.normal(0, 3, 2)
        at = rng.uniform(30, 66, (1, 2))
        copy, moved = script.bend_and_move(dot(at[0]), at, turn, offset, 2.0, rng)
        far.append([np.hypot(*(center(copy.astype(float), moved[0]) - moved[0])), np.hypot(*(at @ turn.T + offset - moved)[0])])
    error, bent = np.array(far).T
    assert error.max() < 1 and np.median(error) < 0.2 and bent.mean() > 1  # the dot is bent too, so its centre is not exactly there


def test_missing_points_stay_missing(script):
    points = np.full((15, 2), 40.0)
    points[3] = np.nan
    image = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)
    _, moved = script.change(image, points, image[None], np.random.default_rng(1), 2.0)
    assert np.isnan(moved).sum() == 2


def test_same_seed_same_copies(script, drawn):
    one, two = (script.strong_copies(drawn, 10, seed=3) for _ in range(2))
    assert len(one) == 10 and (one.images == two.images).all() and np.array_equal(one.points, two.points, equal_nan=True)
    assert set(one.image_id) == set(drawn.image_id), "every face is copied before one is copied again"


def test_copies_made_on_all_cores_are_those_made_on_one(script, drawn, monkeypatch):
    monkeypatch.setattr(script, "CHUNK", 4)
    made = script.strong_copies(drawn, 8, seed=3)
    for number in range(2):
        images, points = script.copy_chunk(drawn, np.random.default_rng([3, number]).permutation(4), 3_000 + number, script.BEND, 0.5)
        rows = slice(4 * number, 4 * number + 4)
        assert np.array_equal(made.images[rows], images) and np.array_equal(made.points[rows], points, equal_nan=True)


def test_a_shift_of_the_marks_is_taken_out_and_single_errors_are_not(script, drawn):
    "Marks that all lie 2 px to the right come back; one wrong mark of one face stays for the mixing and the doubt."
    shifted = replace(drawn, points=drawn.points + np.float32([2, 0]))
    shifted.points[0, 5] += 20
    aligned = script.align(shifted, drawn.points)
    assert np.allclose(aligned.points[1:], drawn.points[1:], atol=1e-3)
    assert np.allclose(aligned.points[0, 5] - drawn.points[0, 5], 20, atol=1e-3)
    assert script.far_apart(aligned, drawn.points).argmax() == 0


def test_photographs_are_translated_by_what_others_taught(script, drawn):
    "A photograph whose own mark is far off does not pull its own answer there."
    faces = concatenate([replace(drawn, group=np.array([f"{turn}-{name}" for name in drawn.group])) for turn in range(10)])
    features = faces.points.reshape(len(faces), -1) + np.random.default_rng(0).normal(0, 0.01, (len(faces), 30))
    wrong = replace(faces, points=faces.points.copy(), truth=None)
    wrong.points[7] += 30
    _, answers = script.translate(wrong, features)
    left = [row for row in range(len(faces)) if faces.group[row] != faces.group[7]]
    assert answers.shape == faces.points.shape and np.abs(answers[7] - wrong.points[7]).mean() > 10
    assert np.abs(answers[left] - faces.points[left]).mean() < 10


def test_mixing_keeps_to_the_share(script, drawn):
    mixed = script.mix(drawn, drawn.points + 4, 0.25)
    assert np.allclose(mixed.points, drawn.points + 1, atol=1e-4)
