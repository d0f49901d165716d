"From an image to points: any format and orientation, every size of face, broken files, videos, results in pixels of the original image."

import csv
import json
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import facekp
from facekp.errors import UserError
from facekp.geometry import Crop, crop_image, fit_crop, to_crop, to_image
from facekp.images import read_image
from facekp.inference.face_detector import nms, pyramid_sizes
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.landmarker import FaceLandmarker
from facekp.inference.outputs import predict_files
from facekp.inference.session import DEFAULT_MODEL, DETECTOR_FILE, open_session
from facekp.inference.sources import find_sources
from facekp.inference.tracking import FaceTracker, OneEuroFilter
from facekp.keypoints import COLUMNS, KEYPOINTS, MEAN_FACE
from facekp.synthetic.head import estimate_pose
from facekp.synthetic.renderer import synthetic_faces
from facekp.video import read_frames

DRAWN = synthetic_faces(24, seed=3, workers=1)
FACES = DRAWN[np.argsort([abs(estimate_pose(points).yaw) for points in DRAWN.points])[:6]]  # frontal faces, for which the detector was made


@pytest.fixture(scope="module")
def detector() -> FaceLandmarker:
    return facekp.load(threads=1)


def photo(width: int = 120, index: int = 0, border: float = 0.5, shape: str = "RGB") -> np.ndarray:
    "Return a synthetic face with replicated borders."
    face = cv2.resize(FACES.images[index], (width, width), interpolation=cv2.INTER_AREA if width < 96 else cv2.INTER_CUBIC)
    edge = int(width * border)
    grey = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    return np.repeat(grey[..., None], 3, axis=2) if shape == "RGB" else grey


def colored(height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, 255 - rows * 5], axis=-1).astype(np.uint8)


# reading

@pytest.mark.parametrize("mode, ending, options", [
    ("RGB", "png", {}), ("RGB", "jpg", {"quality": 97}), ("RGB", "webp", {"lossless": True}), ("RGB", "tif", {}), ("RGB", "bmp", {}),
    ("RGBA", "png", {}), ("CMYK", "jpg", {"quality": 97}), ("P", "gif", {}), ("P", "png", {}),
])
def test_pictures_of_any_format_read_alike(tmp_path, mode, ending, options):
    picture = Image.fromarray(colored()).convert(mode)
    picture.save(tmp_path / f"p.{ending}", **options)
    read = read_image(tmp_path / f"p.{ending}")
    expected = np.asarray(picture.convert("RGB"))
    assert read.dtype == np.uint8 and read.shape == (40, 60, 3)
    assert np.abs(read.astype(int) - expected).mean() < 4


def test_grey_deep_and_transparent_pictures(tmp_path):
    grey = colored()[..., 1]
    Image.fromarray(grey).save(tmp_path / "g.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([colored(), np.zeros((40, 60), np.uint8)])).save(tmp_path / "clear.png")
    for name in ("g.png", "deep.png"):
        assert np.array_equal(read_image(tmp_path / name), np.repeat(grey[..., None], 3, axis=2)), name
    assert (read_image(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_every_image_upright(tmp_path, orientation):
    "kind: 3 | what: each of the eight EXIF orientations | gets: the same upright image"
    turn = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    picture, note = Image.fromarray(colored()), Image.Exif()
    note[0x0112] = orientation
    stored = picture.transpose(Image.Transpose[turn[orientation]]) if orientation > 1 else picture
    stored.save(tmp_path / "p.png", exif=note)
    assert np.array_equal(read_image(tmp_path / "p.png"), colored())


def test_arrays_files_bytes_and_images_are_one(tmp_path):
    Image.fromarray(colored()).save(tmp_path / "p.png")
    for source in (colored(), colored() / 255, colored().astype(np.uint16) * 257, tmp_path / "p.png", str(tmp_path / "p.png"),
                   (tmp_path / "p.png").read_bytes(), Image.fromarray(colored()), np.dstack([colored(), np.full((40, 60), 255, np.uint8)])):
        assert np.array_equal(read_image(source), colored())


@pytest.mark.parametrize("array", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 2), np.uint8), np.full((5, 5), np.nan), np.full((5, 5), -1.0),
                                   np.zeros((5, 5), bool), np.full((5, 5), 70000)])
def test_arrays_that_are_no_picture_are_refused(array):
    with pytest.raises(UserError, match="expected"):
        read_image(array)


def bomb(width: int, height: int) -> bytes:
    "Return a PNG of a few bytes whose header claims a huge size."
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def test_giant_pictures_are_refused_before_they_are_unpacked(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"bomb.png: 60000 x 60000 pixels, expected 1 to 100,000,000"):
        read_image(tmp_path / "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    Image.fromarray(colored()).save(tmp_path / "p.png")
    with pytest.raises(UserError, match="max_pixels"):
        read_image(tmp_path / "p.png", max_pixels=2399)
    assert read_image(tmp_path / "p.png", max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(UserError, match="expected 1 to 100"):
        read_image(colored(), max_pixels=100)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut", bomb(50, 50), b"GIF89a", b"%PDF-1.4"])
def test_broken_files_are_named(tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"broken.jpg: not an image"):
        read_image(tmp_path / "broken.jpg")


def test_a_cut_jpeg_is_broken_and_a_missing_file_is_missing(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / "p.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:9000])
    with pytest.raises(UserError, match="half.jpg"):
        read_image(tmp_path / "half.jpg")
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.jpg")


# geometry

frames = st.tuples(st.floats(-50, 400), st.floats(-50, 400), st.floats(10, 500), st.floats(-3, 3))


@given(frames)
def test_points_go_into_the_picture_and_the_frame_comes_back(values):
    x, y, size, angle = values
    crop = Crop((x, y), size, angle)
    again = fit_crop(MEAN_FACE, to_image(MEAN_FACE, crop))
    assert np.allclose([*again.center, again.size], [x, y, size], atol=1e-3)
    assert abs(np.angle(np.exp(1j * (again.angle - angle)))) < 1e-5
    assert np.allclose(to_crop(to_image(MEAN_FACE, crop), crop), MEAN_FACE, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(60, 240), st.floats(60, 240), st.floats(40, 500), st.floats(-0.7, 0.7), st.integers(20, 75), st.integers(20, 75))
def test_what_is_cut_out_lies_where_to_picture_says(x, y, width, roll, column, row):
    frame = Crop((x, y), width, roll)
    place = to_image(np.array([[column, row]]), frame)[0]
    size = max(2.0, width / 96 * 2)
    rows, columns = np.mgrid[:300, :300]
    picture = (255 * np.exp(-((columns - place[0]) ** 2 + (rows - place[1]) ** 2) / (2 * size**2))).astype(np.uint8)
    if not (20 < place[0] < 280 and 20 < place[1] < 280):
        return
    cut = crop_image(picture, frame).astype(float)
    cut[cut < 60] = 0
    found = np.array([(cut * np.arange(96)).sum(), (cut * np.arange(96)[:, None]).sum()]) / cut.sum()
    assert np.abs(found - [column, row]).max() < 0.35


def test_frames_outside_the_picture_and_pictures_of_one_pixel_can_be_cut():
    assert crop_image(np.full((1, 1, 3), 7, np.uint8), Crop((0.0, 0.0), 50.0)).mean() == 7
    assert crop_image(colored(), Crop((-500.0, 900.0), 30.0, 1.0)).shape == (96, 96, 3)


@given(st.integers(1, 20_000), st.floats(0.005, 1))
def test_the_levels_of_the_pyramid_cover_every_size_and_never_go_far_beyond_the_picture(longest, smallest):
    sides = pyramid_sizes(longest, smallest)
    assert all(side % 32 == 0 for side in sides) and sides == sorted(set(sides)) and 128 <= sides[0] <= 192
    assert all(b <= 6 * a for a, b in zip(sides, sides[1:])), "a box of 18 pixels at one level has at most 108 at the next"
    assert sides[-1] == 128 or sides[-1] <= 1.25 * longest + 16
    assert sides[-1] * smallest >= 18 - 16 * smallest or sides[-1] >= 1.25 * longest - 16


def test_boxes_on_one_face_become_one():
    place = np.zeros((8, 2), np.float32)
    place[1] = 40
    places, scores = nms(np.stack([place, place + [[3, 0]] * 8, place + [[90, 0]] * 8]) + [[0, 0], [0, 0], *[[0, 0]] * 6], np.array([0.5, 0.9, 0.7]))
    assert len(places) == 2 and scores.tolist() == pytest.approx([0.9, 0.7])
    assert nms(np.zeros((0, 8, 2)), np.zeros(0))[0].shape == (0, 8, 2)


# prediction

@pytest.mark.parametrize("width", [48, 96, 150, 300])
def test_points_come_back_in_the_pictures_own_pixels(detector, width):
    errors = []
    for index in range(3):
        answer = detector.predict(photo(width, index))
        assert len(answer) == 1
        inside = (answer[0].points + 0.5 - int(width * 0.5)) * 96 / width - 0.5
        errors.append(np.sqrt(np.mean((inside - FACES.points[index]) ** 2)))
    by_hand = np.sqrt(np.mean((detector.model.predict(FACES.images[:3])[0] - FACES.points[:3]) ** 2))
    assert np.mean(errors) < by_hand + 1


def test_the_answer_moves_turns_and_mirrors_with_the_picture(detector):
    plain = detector.predict(photo(140))[0].points
    moved = detector.predict(cv2.copyMakeBorder(photo(140), 31, 0, 57, 0, cv2.BORDER_REPLICATE))[0].points
    assert np.abs(moved - plain - [57, 31]).max() < 2
    turned = detector.predict(np.ascontiguousarray(np.rot90(photo(140), -1)))  # clockwise
    assert len(turned) == 1
    assert np.abs(turned[0].points - np.stack([279 - plain[:, 1], plain[:, 0]], axis=1)).max() < 6


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_faces_on_their_side_and_upside_down_have_correct_points_or_a_flag(detector, index, turns):
    "kind: 3 | what: faces rotated by 90, 180 and 270 degrees | gets: correct points or a flag"
    plain = detector.predict(photo(140, index))[0].points
    answer = detector.predict(np.ascontiguousarray(np.rot90(photo(140, index), turns)))
    assert len(answer) == 1
    expected = plain
    for _ in range(turns):
        expected = np.stack([expected[:, 1], 279 - expected[:, 0]], axis=1)  # counterclockwise
    assert np.linalg.norm(answer[0].points - expected, axis=1).mean() < 3 or answer[0].flags


def test_negatives_have_correct_points_or_a_flag(detector):
    "kind: 3 | what: negatives of photos | gets: correct points, a flag, or no face"
    for index in range(6):
        plain, answer = detector.predict(photo(140, index)), detector.predict(255 - photo(140, index))
        for face in answer:
            assert np.linalg.norm(face.points - plain[0].points, axis=1).mean() < 0.15 * 50 or face.flags


def test_a_face_with_a_hidden_half_is_flagged_or_not_found(detector):
    "kind: 3 | what: half of a face is hidden | gets: a flag, or no face"
    for index in range(3):
        hidden = photo(160, index)
        hidden[:, :160] = 90
        assert all(face.flags for face in detector.predict(hidden))


def test_distant_detector_points_do_not_discard_a_confident_face(detector):
    "kind: 18 | what: the detector's rough points are far away from a confident face | gets: the face is kept"
    from facekp.inference.confidence import face_confidence, face_measurements

    sure = face_measurements(FACES.points[0], np.full(15, 0.9), 0.9, 0.3)
    unsure = face_measurements(FACES.points[0], np.full(15, 3.5), 0.9, 3.0)
    assert face_confidence(sure) > 0.95 and face_confidence(unsure) < 0.5
    assert detector.predict(photo(160))[0].confidence > 0.9


def test_a_batch_finds_what_each_picture_alone_has(detector):
    pictures = [photo(90), photo(240, 1), np.zeros((40, 50, 3), np.uint8), np.concatenate([photo(90, 2), photo(90, 3)], axis=1)]
    for one, alone in zip(detector.predict(pictures), map(detector.predict, pictures)):
        assert len(one) == len(alone)
        for a, b in zip(one, alone):
            assert np.abs(a.points - b.points).max() < 0.01 * a.crop.size and a.flags == b.flags


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, ...]]:
    "Return a list of the input shapes of each network call, in order."
    shapes, run = [], onnxruntime.InferenceSession.run

    def counted(session, names, inputs, *more):
        shapes.append(next(iter(inputs.values())).shape)
        return run(session, names, inputs, *more)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", counted)
    return shapes


def close(faces, others) -> bool:
    "Return whether two lists contain the same faces in any order, with points equal to a hundredth of a pixel of the crop."
    return len(faces) == len(others) and all(min(np.abs(face.points - other.points).max() for other in others) < 0.01 * face.crop.pixel for face in faces)


@pytest.mark.parametrize("tilt", [0, 30])
def test_pictures_of_a_batch_go_through_the_networks_together(detector, calls, tilt):
    "Clear faces go directly to the keypoint model; the others, such as all tilted ones, are first detected again in crops of 128 pixels."
    pictures = [cv2.warpAffine(photo(200 + 20 * index, index, 1.0), cv2.getRotationMatrix2D((300 + 30 * index, 300 + 30 * index), tilt, 1), None, borderMode=cv2.BORDER_REPLICATE)
                for index in range(4)]
    def inputs_of(*rest: int) -> list[int]:
        "Return the number of crops of each call whose crops have a shape."
        return [shape[0] for shape in calls if shape[1:] == rest]

    together = detector.predict(pictures)
    points, looks = inputs_of(96, 96, 1), inputs_of(3, 128, 128)
    assert len(points) <= 2 * detector.passes and max(points) > 1, calls  # one call per pass for the clear faces and one for the others, not one per image
    assert len(looks) <= len(pictures) + 1, calls  # the coarsest size of each image, and all second detections
    assert max(looks) >= (4 if tilt else 1), calls
    calls.clear()
    alone = [detector.predict(picture) for picture in pictures]
    assert sum(inputs_of(96, 96, 1)) == sum(points) and sum(inputs_of(3, 128, 128)) == sum(looks)  # the same work
    assert len(inputs_of(96, 96, 1)) >= 4 * detector.passes > len(points)
    assert all(close(one, other) for one, other in zip(together, alone, strict=True)) and sum(map(len, alone)) == 4


def test_faces_of_a_picture_go_through_the_model_together(detector, calls):
    group = np.concatenate([photo(150, index) for index in range(5)], axis=1)
    together = detector.predict(group)
    crops = [shape[0] for shape in calls if shape[1:] == (96, 96, 1)]
    assert len(together) == 5 and len(crops) <= 2 * detector.passes and max(crops) > 1, calls  # one call per pass for clear faces, and one for doubtful faces
    margin = 20  # of the neighbouring faces, so that a single face has the same surroundings
    strips = [np.ascontiguousarray(group[:, max(0, 300 * index - margin):300 * (index + 1) + margin]) for index in range(5)]
    for index, strip in enumerate(strips):
        found, left = detector.predict(strip), max(0, 300 * index - margin)
        face = min(together, key=lambda one: abs(one.points[:, 0].mean() - (300 * index + 150)))
        assert min(np.abs(one.points + [left, 0] - face.points).max() for one in found) < 0.5 * face.crop.pixel


def test_a_model_predicts_all_crops_in_one_call(detector, calls):
    crops = FACES.images[:6]
    together = detector.model.predict(crops)
    assert calls == [(6, 96, 96, 1)]
    alone = [detector.model.predict(crop[None]) for crop in crops]
    assert len(calls) == 7
    assert np.abs(together.points - np.concatenate([one.points for one in alone])).max() < 1e-3
    assert np.abs(together.sigma - np.concatenate([one.sigma for one in alone])).max() < 1e-3


def test_every_face_of_a_group_is_found_once(detector):
    group = np.concatenate([photo(90, index) for index in (0, 1, 2)], axis=1)
    answer = detector.predict(group)
    assert len(answer) == 3
    assert sorted(int(face.points[:, 0].mean() // 180) for face in answer.faces) == [0, 1, 2]
    assert answer.points.shape == (3, 15, 2) and all(0.5 <= face.confidence <= 1 for face in answer.faces)


def test_no_face_is_a_result(detector):
    for picture in (np.zeros((60, 80, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8), np.full((1, 1), 9, np.uint8),
                    np.full((3, 700), 200, np.uint8), colored()):
        answer = detector.predict(picture)
        assert len(answer) == 0 and answer.to_dict()["faces"] == []
        assert np.array_equal(answer.draw(), answer.image) and answer._repr_png_().startswith(b"\x89PNG")


def test_small_and_cut_faces_are_uncertain(detector):
    small = detector.predict(photo(30))
    assert small.faces and "small" in small[0].flags
    cut = detector.predict(np.ascontiguousarray(photo(160)[:, 115:]))
    assert cut.faces and "cut" in cut[0].flags
    assert not detector.predict(photo(160))[0].flags


def test_batches_are_lists_or_arrays(detector):
    pictures = [photo(100, index) for index in (0, 1)]
    for batch in (pictures, tuple(pictures), np.stack(pictures), np.stack(pictures)[..., 0], np.stack(pictures)[..., :1]):
        answers = detector.predict(batch)
        assert [len(answer) for answer in answers] == [1, 1]
    assert detector.predict([]) == []
    assert len(detector.predict(pictures[0][..., 0])) == 1


def test_sigma_confidence_and_box_are_in_order(detector):
    face = detector.predict(photo(200))[0]
    assert face.sigma.shape == (15,) and (face.sigma > 0).all()
    left, top, right, bottom = face.box
    assert left < face.points[:, 0].min() and right > face.points[:, 0].max() and top < face.points[:, 1].min()
    twice = detector.predict(cv2.resize(photo(200), None, fx=2, fy=2))[0]
    assert np.allclose(twice.sigma / face.sigma, 2, rtol=0.15)


@pytest.mark.parametrize("options", [{"min_face_size": 0}, {"min_face_size": 2}, {"min_confidence": 1.5}, {"passes": 0}, {"max_pixels": 0}, {"threads": 0}, {"providers": "abacus"}, {"providers": ["cpu", "none"]}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        facekp.load(**options)


def test_models_that_are_none_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    for model, words in ((tmp_path / "text.onnx", "not a model"), (tmp_path / "none.onnx", "no such model"), (DETECTOR_FILE, "expected one input")):
        with pytest.raises(UserError, match=words):
            load_keypoint_model(model)


def test_the_shipped_models_keep_the_contract_and_are_small():
    session = open_session(DEFAULT_MODEL)
    assert {output.name for output in session.get_outputs()} >= {"points", "sigma"}
    notes = session.get_modelmeta().custom_metadata_map
    assert {"name", "version", "data", "license"} <= set(notes)
    assert open_session(DETECTOR_FILE).get_modelmeta().custom_metadata_map["license"] == "Apache-2.0"
    assert DEFAULT_MODEL.stat().st_size <= 1_000_000 and DETECTOR_FILE.stat().st_size <= 300_000
    points, sigma = load_keypoint_model().predict(FACES.images)
    assert np.sqrt(np.mean((points - FACES.points) ** 2)) < 3 and 0.2 < sigma.mean() < 4


def test_a_run_and_a_keras_file_serve_as_models(tmp_path):
    from facekp.models.files import save_model
    from facekp.models.regression import build_mean

    save_model(build_mean(FACES.points), tmp_path / "run" / "model.keras")
    for model in (tmp_path / "run", tmp_path / "run" / "model.keras"):
        points, sigma = load_keypoint_model(model).predict(FACES.images[:2])
        assert np.allclose(points[0], FACES.points.mean(axis=0), atol=1e-2) and not sigma.any()
    assert len(facekp.load(tmp_path / "run", min_confidence=0.1).predict(photo(100))) == 1


# videos

def test_smoothing_calms_what_rests_and_follows_what_moves():
    rng, times = np.random.default_rng(0), np.arange(90) / 30
    truth = np.where(times < 1.5, 50, 50 + 100 * (times - 1.5))[:, None, None] * np.ones((1, 15, 2))
    seen = truth + rng.normal(0, 0.4, truth.shape)
    smoother = OneEuroFilter()
    smooth = np.array([smoother(points, seconds) for points, seconds in zip(seen, times)])
    assert np.diff(smooth[10:44], axis=0).std() < 0.5 * np.diff(seen[10:44], axis=0).std()
    assert np.abs((truth - smooth)[60:].mean()) < 0.8  # under a hundredth of a second
    big, small = OneEuroFilter(), OneEuroFilter()
    for points, seconds in zip(seen, times):
        assert np.allclose(big(points * 4, seconds, pixel=4.0), small(points, seconds) * 4, atol=1e-2)


def make_video(path: Path, steps: int = 12, size: tuple[int, int] = (181, 181)) -> None:
    picture = cv2.resize(photo(100, border=0.4), size)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, size)
    for step in range(steps):
        video.write(np.roll(picture, 2 * step, axis=1))
    video.release()


def test_faces_keep_their_number_in_a_video(tmp_path, detector):
    make_video(tmp_path / "v.avi")
    follower = FaceTracker(detector, search_every=5)
    paths = [follower.next(picture, seconds) for picture, seconds, _, _ in read_frames(tmp_path / "v.avi")]
    assert len(paths) == 12 and all([face.track_id for face in faces] == [1] for faces in paths)
    step = np.mean([b[0].points - a[0].points for a, b in zip(paths[3:], paths[4:])], axis=(0, 1))
    assert abs(step[0] - 2) < 0.5 and abs(step[1]) < 0.5
    assert follower.next(np.zeros((181, 181, 3), np.uint8), 9.0) == []


@pytest.mark.parametrize("form, name", [("png", "v-points.mp4"), ("json", "v.json"), ("csv", "predictions.csv")])
def test_videos_are_written_in_every_form(tmp_path, detector, form, name):
    make_video(tmp_path / "v.avi", steps=5)
    assert predict_files(detector, [tmp_path / "v.avi"], tmp_path / "out", form, show_progress=False) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    if form == "png":
        assert len(list(read_frames(tmp_path / "out" / name))) == 5
    elif form == "json":
        written = json.loads((tmp_path / "out" / name).read_text())
        assert [frame["frame"] for frame in written["frames"]] == list(range(5)) and written["frames"][4]["faces"][0]["track_id"] == 1
    else:
        assert [row["frame"] for row in csv.DictReader((tmp_path / "out" / name).open())] == list("01234")


def test_what_is_no_video_is_named(tmp_path, detector):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    broken = predict_files(detector, [tmp_path / "v.mp4", "webcam:99", "webcam:x"], tmp_path / "out", show_progress=False)
    assert len(broken) == 3 and "v.mp4: not a video" in broken[0] and "no camera answers" in broken[1] and "webcam:N" in broken[2]
    assert not list(tmp_path.glob("out/*"))


# files

@pytest.fixture
def folder(tmp_path) -> Path:
    "Return a folder with two images of the same name, one in a subfolder, a broken image and a text file."
    (tmp_path / "in" / "below").mkdir(parents=True)
    Image.fromarray(photo(90)).save(tmp_path / "in" / "a.png")
    Image.fromarray(photo(90, 1)).save(tmp_path / "in" / "a.jpg", quality=95)
    Image.fromarray(colored()).save(tmp_path / "in" / "below" / "none.webp")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    return tmp_path / "in"


def test_a_folder_is_done_in_order_and_the_broken_file_is_named(folder, detector):
    out = folder / "out"
    broken = predict_files(detector, [folder], out, show_progress=False)
    assert len(broken) == 1 and "broken.jpg: not an image" in broken[0]
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*-points.*"))
    assert names == ["a-2-points.png", "a-points.jpg", "below/none-points.jpg"], "photographs are drawn as JPEG, lossless images as PNG"
    before = Image.open(folder / "a.png")
    assert Image.open(out / "a-2-points.png").size == before.size
    again = predict_files(detector, [folder], out, show_progress=False)
    assert again == broken and len(list(out.rglob("*-points.*"))) == 3, "results must not be predicted as images"


def test_json_and_csv_say_the_same(folder, detector):
    predict_files(detector, [folder], folder / "json", "json", show_progress=False)
    predict_files(detector, [folder], folder / "csv", "csv", show_progress=False)
    with open(folder / "csv" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    one = json.loads((folder / "json" / "a-2.json").read_text())
    assert (one["width"], one["height"]) == (180, 180) and list(one["faces"][0]["points"]) == list(KEYPOINTS)
    row = next(row for row in rows if row["file"].endswith("a.png"))
    assert [float(row[column]) for column in COLUMNS] == [value for place in one["faces"][0]["points"].values() for value in place]
    empty = next(row for row in rows if row["file"].endswith("none.webp"))
    assert empty["face"] == empty["confidence"] == "" and json.loads((folder / "json" / "below" / "none.json").read_text())["faces"] == []


def test_sources_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for sources, words in (([tmp_path / "empty"], "no image or video"), ([tmp_path / "none.jpg"], "no such file or folder")):
        with pytest.raises(UserError, match=words):
            find_sources(sources)


def test_memory_stays_flat(detector):
    picture = photo(64)
    def memory_after(count):
        for _ in range(count):
            detector.predict(picture)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    early = memory_after(20)
    assert memory_after(60) - early < 5


# the command

def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-c", "import sys; from facekp.cli import main; sys.exit(main())", "predict", *map(str, arguments)],
                          capture_output=True, text=True, cwd=cwd)


def test_the_command_prints_json_and_names_what_is_broken(folder):
    good = run("a.png", "below/none.webp", "--format", "json", cwd=folder)
    assert good.returncode == 0, good.stderr
    assert [len(json.loads(line)["faces"]) for line in good.stdout.splitlines()] == [1, 0]
    bad = run("broken.jpg", cwd=folder)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "broken.jpg" in bad.stderr and not bad.stdout
    many = run(".", "--out", "out", cwd=folder)
    assert many.returncode == 2 and "1 could not be read; the rest is done" in many.stderr
    assert many.stdout.count("1 face ") == 2 and "0 faces" in many.stdout and len(list((folder / "out").rglob("*-points.*"))) == 3


def test_a_photo_is_done_without_tensorflow(tmp_path):
    Image.fromarray(photo(120)).save(tmp_path / "p.png")
    code = ("import sys, facekp\nassert not {'tensorflow', 'keras', 'cv2', 'onnxruntime'} & set(sys.modules)\n"
            "assert len(facekp.load().predict(sys.argv[1])) == 1\nassert not {'tensorflow', 'keras', 'matplotlib', 'pandas'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "p.png")], check=True)


@pytest.mark.parametrize("name, kind", [("found.csv", "csv"), ("found.JSON", "json"), ("drawn.jpg", "jpg"), ("film.mp4", "image")])
def test_a_file_named_for_the_results_is_refused_before_any_work(tmp_path, name, kind):
    with pytest.raises(UserError, match=f"results go into a folder, expected as --out .*; --format {kind}"):
        predict_files(None, ["photo.jpg"], tmp_path / name)
    assert not any(tmp_path.iterdir())
    (tmp_path / name).mkdir()  # an existing folder is a folder, whatever its name
    with pytest.raises(UserError, match="photo.jpg"):
        predict_files(None, [tmp_path / "photo.jpg"], tmp_path / name)


@pytest.mark.parametrize("row, blur", [(25, 4), (35, 4), (2, 5), (6, 5)])
def test_strongly_blurred_faces_are_found_where_the_detector_gives_a_low_score(row, blur):
    faces = synthetic_faces(60, seed=3, workers=1)
    scene = np.full((360, 480), 120, np.uint8)
    scene[90:250, 150:310] = cv2.resize(cv2.GaussianBlur(faces.images[row], (0, 0), blur), (160, 160))
    scene = np.repeat(cv2.GaussianBlur(scene, (0, 0), 2)[..., None], 3, axis=2)
    truth = (faces.points[row] + 0.5) * 160 / 96 - 0.5 + [150, 90]
    found = facekp.load(threads=1).find_faces(scene)
    assert len(found) == 1 and np.linalg.norm(found[0].points - truth, axis=1).mean() < 0.2 * np.linalg.norm(truth[0] - truth[1])


def test_a_face_upside_down_that_enters_a_video_is_found_within_twelve_frames():
    wall = np.full((240, 240, 3), 120, np.uint8)
    entered = wall.copy()
    entered[60:180, 60:180] = cv2.resize(synthetic_faces(3, seed=3, workers=1).images[0], (120, 120))[::-1, ::-1, None]
    tracker = FaceTracker(facekp.load(threads=1))
    assert not tracker.landmarker.find_faces(entered, thorough=False) and len(tracker.landmarker.find_faces(entered)) == 1
    found = [len(tracker.next(entered if number else wall, number / 30)) for number in range(30)]
    assert found[12:] == [1] * 18, found
