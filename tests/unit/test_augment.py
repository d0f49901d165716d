"facekp.augment and facekp.augment_bulk: points move with the grey values, fifteen stay fifteen, and the bulk computation equals the plain recipe."
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.augment import (
    KEYPOINT_PARAMS,
    MAX_BLUR,
    MAX_BRIGHTNESS,
    MAX_DEGREES,
    MAX_NOISE,
    MAX_SHIFT,
    A,
    MirrorFace,
    Warp,
    apply_recipe,
    mirror,
    plain_recipe,
    strong_recipe,
)
from facekp.augment_bulk import _augment_images, _augment_points, _sample_parameters, augment_faces
from facekp.errors import UserError
from facekp.faces import Faces
from facekp.keypoints import FLIP_PAIRS, KEYPOINTS, MEAN_FACE
from facekp.synthetic.shape import sample_shapes


def single(step, image, points, seed=0):
    "Apply a single transform."
    return apply_recipe(A.Compose([step], keypoint_params=KEYPOINT_PARAMS, seed=seed), image, points)


def shift(image, points, right, down):
    return single(A.Affine(translate_px={"x": (right, right), "y": (down, down)}, border_mode=cv2.BORDER_REPLICATE, p=1), image, points)


def rotate(image, points, degrees):
    return single(A.Affine(rotate=(degrees, degrees), border_mode=cv2.BORDER_REPLICATE, p=1), image, points)


def blur(image, points, sigma):
    return single(A.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1), image, points)


def brightness(image, points, change):
    return single(A.RandomBrightnessContrast((change, change), (0, 0), p=1), image, points)


def noise(image, points, std, seed=0):
    return single(A.GaussNoise(std_range=(std, std), p=1), image, points, seed)


def smooth_faces(count, seed=0, gaps=0.0, truth=False):
    "Return images as smooth as faces, with points of realistic shape."
    rng = np.random.default_rng(seed)
    images = np.stack([cv2.GaussianBlur(rng.integers(0, 256, (96, 96)).astype(np.uint8), (0, 0), 3) for _ in range(count)])
    known = sample_shapes(count, rng).astype(np.float32)
    points = np.where(rng.random((count, 15, 1)) < gaps, np.nan, known).astype(np.float32)
    return Faces(images=images, points=points, group=np.array([f"person {i // 2}" for i in range(count)]), source=np.repeat("smooth", count),
                 image_id=np.arange(count).astype(str), truth=known if truth else None)


def spot(x, y):
    "Return an image with a bright spot, and the spot's centre computed from the grey values."
    yy, xx = np.mgrid[:96, :96]
    return (200 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 18)).round().astype(np.uint8)


def middle(image):
    yy, xx = np.mgrid[:96, :96]
    weight = image.astype(np.float64)
    return np.array([(weight * xx).sum(), (weight * yy).sum()]) / weight.sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(-30, 30), st.integers(-30, 30), st.floats(-180, 180), st.integers(0, 1000))
def test_affine_there_and_back(right, down, degrees, seed):
    face = smooth_faces(1, seed, gaps=0.2)
    image, points = face.images[0], face.points[0]
    moved = shift(image, points, right, down)[1]
    assert moved.shape == (15, 2) and np.allclose(moved, points + [right, down], atol=1e-4, equal_nan=True)
    assert np.allclose(shift(image, moved, -right, -down)[1], points, atol=1e-4, equal_nan=True)
    turned = rotate(image, points, degrees)[1]
    assert np.allclose(rotate(image, turned, -degrees)[1], points, atol=1e-3, equal_nan=True)
    assert np.array_equal(np.isnan(turned), np.isnan(points)) and np.array_equal(np.isnan(moved), np.isnan(points))


@settings(max_examples=30, deadline=None)
@given(st.floats(25, 70), st.floats(25, 70), st.integers(-10, 10), st.integers(-10, 10), st.floats(-180, 180))
def test_points_go_where_the_grey_values_go(x, y, right, down, degrees):
    image, place = spot(x, y), np.float32([[x, y]])
    for step, amount in ((shift, (right, down)), (rotate, (degrees,)), (blur, (1.0,))):
        found, expected = step(image, place, *amount)
        if (np.abs(expected - 47.5) < 32).all():
            assert np.abs(middle(found) - expected[0]).max() < 0.1, (step.__name__, amount)


def test_rotation_is_counter_clockwise():
    points = np.full((15, 2), 47.5, np.float32)
    points[0] = [80, 47.5]
    assert np.allclose(rotate(np.zeros((96, 96), np.uint8), points, 90)[1][0], [47.5, 15], atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_mirror_twice_is_the_identity(count, seed):
    faces = smooth_faces(count, seed, gaps=0.2)
    images, points = mirror(*mirror(faces.images, faces.points))
    assert (images == faces.images).all() and np.allclose(points, faces.points, atol=1e-5, equal_nan=True)
    single = mirror(faces.images[0], faces.points[0])
    assert (single[0] == mirror(faces.images, faces.points)[0][0]).all()
    assert np.array_equal(single[1], mirror(faces.images, faces.points)[1][0], equal_nan=True)


def test_mirror_swaps_left_and_right_and_moves_the_spot():
    _, mirrored = mirror(np.zeros((96, 96), np.uint8), MEAN_FACE)
    for left, right in FLIP_PAIRS:
        assert np.allclose(mirrored[left], [95 - MEAN_FACE[right, 0], MEAN_FACE[right, 1]])
    left_eye = KEYPOINTS.index("left_eye_center")
    assert abs(mirrored[left_eye, 0] - MEAN_FACE[left_eye, 0]) < 2, "the person's left eye stays on the right of the image"
    image = spot(20, 40)
    assert np.allclose(middle(mirror(image, MEAN_FACE)[0]), [95 - middle(image)[0], middle(image)[1]])


def test_grey_steps_leave_points_alone():
    face = smooth_faces(1, gaps=0.3)
    image, points = face.images[0], face.points[0]
    for changed, kept in (blur(image, points, 1.5), brightness(image, points, -0.1), noise(image, points, 0.05)):
        assert changed.dtype == np.uint8 and changed.shape == (96, 96) and (changed != image).any()
        assert np.array_equal(kept, points, equal_nan=True)
    grey = np.full((96, 96), 100, np.uint8)
    assert (brightness(grey, points, 0.2)[0] == 151).all() and (brightness(grey, points, 1)[0] == 255).all()
    assert (brightness(grey, points, -1)[0] == 0).all()
    assert abs(noise(grey, points, 0.05)[0].std() / (0.05 * 255) - 1) < 0.1
    assert (noise(grey, points, 0.05, seed=1)[0] == noise(grey, points, 0.05, seed=1)[0]).all()
    assert (noise(grey, points, 0.05, seed=1)[0] != noise(grey, points, 0.05, seed=2)[0]).any()


def test_a_thousand_faces_become_thirteen_thousand():
    faces = smooth_faces(1000, gaps=0.1)
    many = augment_faces(faces, copies=12)
    assert len(many) == 13_000 and many.images.dtype == np.uint8 and many.points.dtype == np.float32
    assert (many.images[:1000] == faces.images).all() and np.array_equal(many.points[:1000], faces.points, equal_nan=True)
    assert (many.group.reshape(13, 1000) == faces.group).all() and (many.source == "smooth").all()
    assert len(np.unique(many.image_id)) == 13_000 and many.truth is None and many.name == faces.name
    assert np.isnan(many.points).sum() == 13 * np.isnan(faces.points).sum()
    assert len(np.unique(many.images[1000:].reshape(12_000, -1)[:, ::97], axis=0)) == 12_000, "every copy is different"


@pytest.mark.parametrize("count, copies", [(1, 1), (3, 5), (100, 3)])
def test_same_seed_same_copies_with_any_number_of_workers(count, copies):
    faces = smooth_faces(count, gaps=0.1, truth=True)
    reference = augment_faces(faces, copies, seed=4, workers=1)
    for workers in (2, 3, None):
        again = augment_faces(faces, copies, seed=4, workers=workers)
        assert (again.images == reference.images).all()
        assert np.array_equal(again.points, reference.points, equal_nan=True) and np.array_equal(again.truth, reference.truth)
    assert (augment_faces(faces, copies, seed=5).images[count:] != reference.images[count:]).any()


def test_true_points_move_along():
    faces = smooth_faces(20, gaps=0.4, truth=True)
    many = augment_faces(faces, copies=6)
    assert np.isfinite(many.truth).all()
    seen = np.isfinite(many.points)
    assert (many.points[seen] == many.truth[seen]).all()


def test_mirror_transform_equals_mirror_of_arrays():
    face = smooth_faces(1, gaps=0.2)
    image, points = single(MirrorFace(p=1), face.images[0], face.points[0])
    expected = mirror(face.images[0], face.points[0])
    assert (image == expected[0]).all() and np.allclose(points, expected[1], atol=1e-4, equal_nan=True)


def test_bulk_computation_equals_the_plain_recipe():
    "The transforms of plain_recipe, with their strengths fixed to those of the bulk computation, give the same faces."
    faces = smooth_faces(80, gaps=0.1)
    faces.images[:40] = np.kron(np.random.default_rng(1).integers(0, 256, (40, 12, 12)), np.ones((1, 8, 8))).astype(np.uint8)  # hard edges
    amounts = _sample_parameters(80, seed=2)
    amounts["noise"][:] = 0
    images = np.empty_like(faces.images)
    _augment_images(faces.images, amounts, 0, 2, images)
    points = _augment_points(faces.points, amounts)
    assert 20 < amounts["mirror"].sum() < 60
    for number in range(80):
        recipe = plain_recipe()
        flip, affine, gauss, light, grain = recipe.transforms
        flip.p = float(amounts["mirror"][number])
        right, down = map(int, amounts["shift"][number])
        affine.translate_px, affine.rotate = {"x": (right, right), "y": (down, down)}, (amounts["degrees"][number],) * 2
        gauss.sigma_limit, light.brightness_limit, grain.std_range = (amounts["blur"][number],) * 2, (amounts["brightness"][number],) * 2, (0, 0)
        image, expected = apply_recipe(recipe, faces.images[number], faces.points[number])
        assert np.allclose(points[number], expected, atol=1e-3, equal_nan=True)
        assert np.abs(images[number].astype(int) - image).max() <= 1


def test_bulk_computation_draws_the_limits_of_the_plain_recipe():
    flip, affine, gauss, light, grain = plain_recipe().transforms
    assert flip.p == 0.5 and affine.translate_px == {"x": (-MAX_SHIFT, MAX_SHIFT), "y": (-MAX_SHIFT, MAX_SHIFT)}
    assert affine.rotate == (-MAX_DEGREES, MAX_DEGREES) and gauss.sigma_limit[1] == MAX_BLUR
    assert light.brightness_limit == (-MAX_BRIGHTNESS, MAX_BRIGHTNESS) and light.contrast_limit == (0, 0) and grain.std_range == (0, MAX_NOISE)


@pytest.mark.parametrize("recipe", [plain_recipe, strong_recipe])
def test_recipes_keep_fifteen_points_and_follow_their_seed(recipe):
    face = smooth_faces(1, gaps=0.3)
    image, points = face.images[0], face.points[0]
    one, again, other = ([apply_recipe(made, image, points) for _ in range(12)] for made in (recipe(3), recipe(3), recipe(4)))
    for (first, moved), (second, moved_again) in zip(one, again, strict=True):
        assert first.shape == (96, 96) and first.dtype == np.uint8 and moved.shape == (15, 2)
        assert (first == second).all() and np.array_equal(moved, moved_again, equal_nan=True)
        assert np.isnan(moved).sum() == np.isnan(points).sum()
    assert any((first != second).any() for (first, _), (second, _) in zip(one, other, strict=True))


def test_warp_moves_a_spot_with_its_point():
    errors, moves = [], []
    for seed in range(30):
        place = np.random.default_rng(seed).uniform(25, 70, 2)
        yy, xx = np.mgrid[:96, :96]
        image = (200 * np.exp(-((xx - place[0]) ** 2 + (yy - place[1]) ** 2) / 4.5)).round().astype(np.uint8)
        warped, points = single(Warp(2.0, p=1), image, np.tile(place, (15, 1)), seed)
        errors.append(np.abs(middle(warped) - points[0]).max())
        moves.append(np.abs(points[0] - place).max())
    assert np.mean(errors) < 0.1 and max(errors) < 0.4 and np.mean(moves) > 0.6


def test_copies_by_another_recipe_do_not_depend_on_the_number_of_workers():
    faces = smooth_faces(7, gaps=0.1)
    one, two = (augment_faces(faces, 20, seed=4, workers=workers, recipe=strong_recipe) for workers in (1, 2))
    assert (one.images == two.images).all() and np.array_equal(one.points, two.points, equal_nan=True)
    assert (one.images[:7] == faces.images).all() and (one.group == np.tile(faces.group, 21)).all()
    assert np.isnan(one.points).sum() == 21 * np.isnan(faces.points).sum()
    assert len(np.unique(one.images.reshape(147, -1), axis=0)) == 147, "every copy is different"


def test_bulk_noise_is_as_strong_as_it_says():
    grey = replace(smooth_faces(400), images=np.full((400, 96, 96), 128, np.uint8))
    amounts = _sample_parameters(400, seed=0)
    images = augment_faces(grey, copies=1, seed=0).images[400:].astype(np.float64)
    expected = np.sqrt((255 * amounts["noise"]) ** 2 + 1 / 12)
    clear = amounts["noise"] > 0.01
    assert clear.sum() > 100
    assert np.allclose(images.std(axis=(1, 2))[clear], expected[clear], rtol=0.05)
    assert np.allclose(images.mean(axis=(1, 2)), 128 + 255 * amounts["brightness"], atol=1)
    other = np.corrcoef(images.reshape(400, -1)[clear][:60])
    assert np.abs(other - np.eye(60)).max() < 0.9, "two images have the same noise"


def test_amounts_stay_within_their_limits():
    amounts = _sample_parameters(20_000, seed=0)
    assert set(np.unique(amounts["shift"])) == set(range(-MAX_SHIFT, MAX_SHIFT + 1))
    for name, low, high in (("degrees", -MAX_DEGREES, MAX_DEGREES), ("blur", 0, MAX_BLUR),
                            ("brightness", -MAX_BRIGHTNESS, MAX_BRIGHTNESS), ("noise", 0, MAX_NOISE)):
        assert low <= amounts[name].min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < amounts[name].max() <= high
    assert abs(amounts["mirror"].mean() - 0.5) < 0.02


def test_nothing_to_do_and_wrong_amounts():
    faces = smooth_faces(3)
    assert augment_faces(faces, copies=0) is faces
    assert len(augment_faces(faces[[]], copies=2)) == 0
    with pytest.raises(UserError, match="copies = -1, expected 0 or more"):
        augment_faces(faces, copies=-1)
    with pytest.raises(UserError, match="workers = 0, expected 1 or more"):
        augment_faces(faces, workers=0)


def test_the_notebook_of_the_bulk_computation_states_the_recorded_speed():
    root = Path(__file__).resolve().parents[2]
    record = json.loads((root / "results" / "benchmarks" / "augmentation.json").read_text(encoding="utf-8"))
    cells = json.loads((root / "nbs" / "library" / "augment_bulk.ipynb").read_text(encoding="utf-8"))["cells"]
    assert f"{record['ratios']['one worker / albumentations']:.1f} times as many copies" in "".join(cells[0]["source"])
