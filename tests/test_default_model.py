"The copies that the shipped model learns from: points go where the picture goes."

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "default_model.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("default_model", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


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


def test_same_seed_same_copies(script):
    from facekp.draw import draw_faces

    faces = draw_faces(4, seed=0)
    one, two = (script.strong_copies(faces, 2, seed=3, bend=2.0) for _ in range(2))
    assert len(one) == 12 and (one.images == two.images).all() and np.array_equal(one.points, two.points, equal_nan=True)
