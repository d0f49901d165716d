import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.errors import UserError
from facekp.keypoints import FLIP_ORDER, KEYPOINTS
from facekp.synthetic.head import KEYPOINT_DEPTH, TEMPLATE, Head, Pose, estimate_pose, outline_head, project, rotate_pose
from facekp.synthetic.renderer import stream_synthetic_faces, synthetic_face, synthetic_faces
from facekp.synthetic.shape import SHAPE_COMPONENTS, SHAPE_MEAN, sample_shapes


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(70, seed=3, workers=1)


def test_same_seed_same_faces_for_any_number_of_workers(faces):
    spread = synthetic_faces(70, seed=3, workers=2)
    assert (spread.images == faces.images).all() and (spread.points == faces.points).all()
    assert (spread.group == faces.group).all()


def test_a_face_depends_on_seed_and_number_alone(faces):
    part = synthetic_faces(5, seed=3, start=62, workers=1)
    image, points = synthetic_face(3, 64)
    assert (part.images == faces.images[62:67]).all()
    assert (image == part.images[2]).all() and (points == part.points[2]).all()
    assert part.group.tolist() == [f"drawn-3-{index}" for index in range(62, 67)]


def test_seeds_differ(faces):
    other = synthetic_faces(5, seed=4, workers=1)
    assert all((other.images[index] != faces.images[index]).mean() > 0.5 for index in range(5))


def test_no_two_faces_are_alike(faces):
    assert len({image.tobytes() for image in faces.images}) == len(faces)


def test_labels_are_complete_and_true(faces):
    assert faces.points.dtype == np.float32 and faces.points.shape == (70, 15, 2)
    assert np.isfinite(faces.points).all() and (faces.points == faces.truth).all()
    assert set(faces.source) == {"drawn"} and faces.name == "synthetic:drawn"


def test_points_stay_in_the_picture():
    points = np.stack([rotate_pose(shape, 0.2, 0.1, 0.05) for shape in sample_shapes(500, np.random.default_rng(0))])
    inside = ((points >= -1) & (points <= 97)).all(axis=2)
    assert inside.mean() > 0.995


def test_eyes_are_darker_than_the_skin_around(faces):
    eyes = [image[int(y) - 1:int(y) + 2, int(x) - 1:int(x) + 2].mean() for image, (x, y) in zip(faces.images, faces.points[:, 0])]
    cheeks = [image[int(y) + 12:int(y) + 15, int(x) - 1:int(x) + 2].mean() for image, (x, y) in zip(faces.images, faces.points[:, 0])]
    assert (np.array(eyes) < np.array(cheeks)).mean() > 0.75


def test_pictures_use_the_range_of_grey(faces):
    assert faces.images.dtype == np.uint8
    assert 70 < faces.images.mean() < 160
    assert (faces.images.std(axis=(1, 2)) > 8).all()


def test_shapes_have_the_mean_and_covariance_of_the_table():
    shapes = sample_shapes(20000, np.random.default_rng(1)).reshape(-1, 30)
    wanted = SHAPE_COMPONENTS.T @ SHAPE_COMPONENTS
    assert np.abs(shapes.mean(axis=0) - SHAPE_MEAN).max() < 0.15
    assert np.abs(np.cov(shapes.T) - wanted).max() < 0.08 * wanted.max()


def test_a_mirrored_crowd_looks_like_the_crowd():
    shapes = sample_shapes(5000, np.random.default_rng(2))
    mirrored = (shapes * [-1, 1] + [95, 0])[:, FLIP_ORDER]
    assert np.abs(mirrored.mean(axis=0) - shapes.mean(axis=0)).max() < 1.5
    assert np.abs(mirrored.std(axis=0) / shapes.std(axis=0) - 1).max() < 0.15


def test_the_order_of_the_keypoints_is_kept(faces):
    x, y = (faces.points[..., axis].mean(axis=0) for axis in (0, 1))
    names = {name: index for index, name in enumerate(KEYPOINTS)}
    assert x[names["left_eye_center"]] > x[names["right_eye_center"]]
    assert x[names["mouth_left_corner"]] > x[names["mouth_right_corner"]]
    assert y[names["left_eyebrow_inner_end"]] < y[names["left_eye_center"]] < y[names["nose_tip"]] < y[names["mouth_center_top_lip"]]
    assert y[names["mouth_center_top_lip"]] < y[names["mouth_center_bottom_lip"]]


angles = st.floats(-0.6, 0.6)


@given(yaw=angles, roll=angles, scale=st.floats(0.7, 1.4))
@settings(max_examples=60, deadline=None)
def test_the_pose_of_a_turned_head_is_found(yaw, roll, scale):
    pose = Pose(yaw, 0.0, roll, scale, np.array([48.0, 37.0]))
    found = estimate_pose(project(TEMPLATE, pose))
    assert np.allclose([found.yaw, found.pitch, found.roll, found.scale], [yaw, 0, roll, scale], atol=1e-6)


@given(yaw=angles, roll=angles)
@settings(max_examples=60, deadline=None)
def test_no_turn_leaves_the_points_and_a_turn_moves_them_by_depth(yaw, roll):
    points = SHAPE_MEAN.reshape(15, 2)
    assert np.allclose(rotate_pose(points, 0, 0, 0), points)
    moved = rotate_pose(points, yaw, 0, 0) - rotate_pose(points, -yaw, 0, 0)
    assert np.allclose(moved[:, 0], 2 * np.sin(yaw) * KEYPOINT_DEPTH, atol=0.35)
    lengths = np.linalg.norm(rotate_pose(points, 0, 0, roll) - estimate_pose(points).origin, axis=1)
    assert np.allclose(lengths, np.linalg.norm(points - estimate_pose(points).origin, axis=1), atol=1e-6)


def test_the_head_holds_its_keypoints():
    "Holds for 501 shapes, except for three known extreme ones that miss a bound."
    apart, outside = [], []
    for seed in range(501):
        points = sample_shapes(1, np.random.default_rng(seed))[0]
        head = Head(points)
        outline = outline_head(head).astype(np.float32)
        apart += [seed] * bool(np.abs(head.place(TEMPLATE) - points).max() >= 1.0)
        outside += [seed] * any(cv2.pointPolygonTest(outline, tuple(map(float, point)), False) <= 0 for point in points[[0, 1, 2, 4, 10, 13]])
    assert len(apart) <= 1 and len(outside) <= 2, (apart, outside)


def test_the_stream_goes_on_where_it_was(faces):
    stream = stream_synthetic_faces(seed=3, batch=20, workers=1)
    first, second = next(stream), next(stream)
    assert (np.concatenate([first.images, second.images]) == faces.images[:40]).all()


@pytest.mark.parametrize(("wish", "message"), [
    ({"count": 0}, "count 0: expected a whole number, 1 or more"),
    ({"count": 1.5}, "count 1.5: expected a whole number"),
    ({"count": 1, "seed": -1}, "seed -1: expected a whole number, 0 or more"),
    ({"count": 1, "start": -2}, "start -2"),
    ({"count": 1, "workers": -3}, "workers -3: expected a whole number, 1 or more"),
])
def test_impossible_wishes_are_refused(wish, message):
    with pytest.raises(UserError, match=message):
        synthetic_faces(**wish)
