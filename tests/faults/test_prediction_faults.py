"Prediction under faults reported for similar tools: unusual arrays and sources, names, results next to sources, interruptions, lost faces, lag."

import csv
import io
import json
import os
import pickle
import threading
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from facekp.errors import UserError
from facekp.images import read_image
from facekp.inference.drawing import draw_predictions
from facekp.inference.landmarker import load
from facekp.inference.outputs import predict_files
from facekp.inference.tracked_video import track
from facekp.inference.tracking import FaceTracker, OneEuroFilter
from facekp.inference.video_file import VideoFile
from facekp.keypoints import MEAN_FACE
from facekp.synthetic.head import estimate_pose
from facekp.synthetic.renderer import synthetic_faces
from facekp.video import read_frames


@pytest.fixture(scope="module")
def landmarker():
    return load(threads=1)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    "Return the most frontal synthetic face with replicated borders."
    faces = synthetic_faces(24, seed=3, workers=1)
    frontal = np.argmin([abs(estimate_pose(points).yaw) for points in faces.points])
    face = cv2.resize(faces.images[frontal], (120, 120), interpolation=cv2.INTER_CUBIC)
    return np.repeat(cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE)[..., None], 3, axis=2)


def encoded(image: np.ndarray, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("change", [
    lambda image: image / np.float32(image.max()) * np.float32(1.02), lambda image: (image / 255).astype(np.float16), lambda image: image.astype(np.float32) * (256 / image.max()),
    lambda image: np.round(image * (1023 / 255)).astype(np.uint16), lambda image: np.round(image * (4095 / 255)).astype(np.uint16)])
def test_values_of_any_range_give_the_same_points(landmarker, scene, change):
    "kind: 4 | what: floats slightly above 1 or 255, float16, or 10 or 12 bits stored in 16 | gets: the same points within 1.5 px"
    plain, changed = landmarker.predict(scene), landmarker.predict(change(scene))
    assert len(changed) == 1 and np.abs(changed.points - plain.points).max() < 1.5


@pytest.mark.parametrize("array", [np.zeros((3, 40, 60), np.uint8), np.zeros((4, 40, 60), np.float32), np.zeros((40, 60, 2), np.uint8),
                                   np.zeros((2, 3, 40, 60), np.uint8), np.full((40, 60, 3), 2.5), np.full((40, 60), -9.0)])
def test_ambiguous_arrays_are_refused_in_one_line(landmarker, array):
    "kind: 4 | what: channel-first arrays, two channels, floats between the ranges | gets: a one-line error with the expected shape or range"
    with pytest.raises(UserError) as caught:
        landmarker.predict(array)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value) or "scale them" in str(caught.value)


def test_open_files_and_buffers_are_read_as_images(landmarker, scene, tmp_path):
    "kind: 11 | what: an open file, BytesIO, bytearray, memoryview or bytes of a JPEG | gets: the same image"
    content = encoded(scene)
    (tmp_path / "p.jpg").write_bytes(content)
    expected = read_image(tmp_path / "p.jpg")
    with open(tmp_path / "p.jpg", "rb") as file:
        for source in (file, io.BytesIO(content), bytearray(content), memoryview(content), content):
            assert np.array_equal(read_image(source), expected)
    assert len(landmarker.predict(io.BytesIO(content))) == 1


class Tensor:
    "The interface that TensorFlow and PyTorch offer to NumPy."

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_tensors_are_treated_as_arrays(landmarker, scene):
    "kind: 11 | what: a tensor of another library | gets: the same prediction as for the array"
    assert landmarker.predict(Tensor(scene)) == landmarker.predict(scene)


def test_a_jpeg_without_its_end_marker_is_read_and_one_without_pixels_is_not(scene):
    "kind: 14 | what: a JPEG without its last bytes | gets: the image if only the end marker is missing, a one-line error if pixels are missing"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for image in (scene, noise):
        content = encoded(image)
        assert np.array_equal(read_image(content[:-2]), read_image(content))
        for length in (len(content) - 30, len(content) // 2):
            with pytest.raises(UserError, match="not an image"):
                read_image(content[:length])


def test_heic_is_recognised_by_its_content(tmp_path):
    "kind: 12 | what: a HEIC file named .jpg, or a JPEG named .HEIC | gets: the content decides; for a HEIC file the error names the package that reads it"
    pytest.importorskip("PIL")
    try:
        import pillow_heif  # noqa: F401
        pytest.skip("pillow-heif is installed")
    except ImportError:
        pass
    (tmp_path / "p.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(UserError, match="pip install pillow-heif"):
        read_image(tmp_path / "p.jpg")
    (tmp_path / "p.HEIC").write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    assert read_image(tmp_path / "p.HEIC").shape == (8, 8, 3)


def test_threads_change_no_process_wide_state(scene):
    "kind: 15 | what: eight threads read images | gets: Pillow's limit and the warning filters are unchanged"
    content, before = encoded(scene), (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    threads = [threading.Thread(target=lambda: [read_image(content) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before and Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("out", [".", "photos"])
def test_results_may_be_next_to_their_sources(landmarker, scene, tmp_path, monkeypatch, out):
    "kind: 10, 13 | what: --out is the folder of the images or the folder above, and contains a file that is not an image | gets: the images are predicted, earlier results are not"
    monkeypatch.chdir(tmp_path)
    os.makedirs("photos")
    Image.fromarray(scene).save("photos/p.png")
    (tmp_path / "photos" / "notes.h5").write_bytes(b"no image")
    for _ in range(2):
        assert predict_files(landmarker, ["photos"], out, show_progress=False) == []
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["p-points.png", "p.png"]


@pytest.mark.parametrize("format", ["image", "png", "jpg", "json", "jsonl", "csv", "coco", "labelme"])
def test_a_name_in_any_script_has_its_result(landmarker, scene, tmp_path, format, monkeypatch, capsys):
    "kind: 8 | what: file names in Latin-1, Czech and Japanese, with standard output in cp1252 | gets: a result for each of them in every format"
    for name in ("a.png", "caf\udce9.png", "č日.png"):
        with open(os.fsencode(tmp_path / name), "wb") as file:
            file.write(encoded(scene, "PNG"))
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", narrow)
    assert predict_files(landmarker, [tmp_path], tmp_path / "out", format) == []
    assert len(list((tmp_path / "out").iterdir())) == (1 if format in ("jsonl", "csv", "coco") else 3)
    if format == "csv":
        with open(tmp_path / "out" / "predictions.csv", encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == 3
        assert b"predictions.csv" in narrow.buffer.getvalue(), "the command states where the table is"
    for format in ("json", "jsonl", "csv", "coco"):
        assert predict_files(landmarker, [tmp_path / "č日.png"], None, format) == []


def test_an_interrupted_run_keeps_its_table(landmarker, scene, tmp_path, monkeypatch):
    "kind: 7 | what: Ctrl-C during the third of five images | gets: a CSV of the two finished images, and their number"
    for number in range(5):
        Image.fromarray(scene).save(tmp_path / f"{number}.png")
    calls, predict = [], type(landmarker).predict

    def stop_at_third(self, image):
        calls.append(image)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(self, image)

    monkeypatch.setattr(type(landmarker), "predict", stop_at_third)
    with pytest.raises(KeyboardInterrupt, match="2 of 5"):
        predict_files(landmarker, [tmp_path], tmp_path / "out", "csv", show_progress=False)
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.parametrize("format, kept", [("json", []), ("jsonl", ["p.png", 0, 1, 2, 3]), ("csv", ["p.png"]), ("image", [])])
def test_an_interrupted_video_does_not_look_complete(landmarker, scene, tmp_path, monkeypatch, format, kept):
    "kind: 7 | what: Ctrl-C during a video | gets: no video, image or JSON that looks complete; finished sources are kept"
    Image.fromarray(scene).save(tmp_path / "p.png")
    write_video(tmp_path / "v.avi", scene, 10, 8)
    calls, following = [], FaceTracker.next

    def stop_at_fifth(self, *arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return following(self, *arguments)

    monkeypatch.setattr(FaceTracker, "next", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt, match="1 of 2"):
        predict_files(landmarker, [tmp_path], tmp_path / "out", format, show_progress=False)
    assert not list((tmp_path / "out").glob("v*"))
    for name, read in (("predictions.jsonl", lambda text: [json.loads(line) for line in text.splitlines()]), ("predictions.csv", lambda text: list(csv.DictReader(io.StringIO(text))))):
        if (tmp_path / "out" / name).exists():
            rows = read((tmp_path / "out" / name).read_text())
            assert [row["frame"] if row.get("frame", "") != "" else row["file"].rsplit("/")[-1] for row in rows] == kept


def test_the_result_line_of_a_video_states_that_browsers_do_not_play_it(landmarker, scene, tmp_path, capsys, monkeypatch):
    "kind: 23 | what: a system without an H.264 encoder | gets: a video, and a one-line message that browsers do not play it"
    write_video(tmp_path / "v.avi", scene, 10, 3)
    monkeypatch.setattr("facekp.inference.video_file.has_h264", lambda: False)
    predict_files(landmarker, [tmp_path / "v.avi"], tmp_path / "out")
    assert "no H.264 encoder" in capsys.readouterr().out and len(list(read_frames(tmp_path / "out" / "v-points.mp4"))) == 3


def test_drawn_faces_show_their_ids_and_no_speed(landmarker, scene, monkeypatch):
    "kind: 23 | what: annotated frames of a video | gets: id, confidence and flags of each face, but not the speed of the machine"
    texts = []
    monkeypatch.setattr(cv2, "putText", lambda image, text, *rest: texts.append(text))
    face = FaceTracker(landmarker).next(scene, 0.0)[0]
    draw_predictions(scene, [face])
    assert texts == [" ".join(["#1", f"{face.confidence:.2f}", *face.flags])]


def test_videos_are_refused_by_image_formats_and_the_images_are_predicted(landmarker, scene, tmp_path):
    "kind: 30 | what: a video with --format coco or labelme | gets: a one-line error with the formats for videos; the images are predicted"
    write_video(tmp_path / "v.avi", scene, 10, 3)
    Image.fromarray(scene).save(tmp_path / "p.png")
    broken = predict_files(landmarker, [tmp_path], tmp_path / "out", "coco", show_progress=False)
    assert len(broken) == 1 and "expected --format json, jsonl or csv" in broken[0]
    assert len(json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]) == 1


def write_video(path, scene, rate, frames):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, scene.shape[1::-1])
    for number in range(frames):
        video.write(np.ascontiguousarray(np.roll(scene, number, axis=1)[..., ::-1]))
    video.release()


@pytest.mark.parametrize("rate", [0.5, 2, 12.5, 30])
def test_frames_have_the_times_of_the_file(scene, tmp_path, rate):
    "kind: 5 | what: videos with 0.5, 2, 12.5 and 30 frames per second | gets: the times of the file, within 1 ms"
    write_video(tmp_path / "v.avi", scene, rate, 6)
    frames = list(read_frames(tmp_path / "v.avi"))
    assert np.allclose([frame.seconds for frame in frames], np.arange(6) / rate, atol=1e-3) and frames[0].rate == pytest.approx(rate)


def with_durations(content: bytes, seconds: list) -> bytes:
    "Give each frame of an MP4 file, whose index is at the end, its own duration."
    place = content.index(b"stts")
    count = int(np.frombuffer(content, ">u4", 1, place + 12)[0])
    scale = int(np.frombuffer(content, ">u4", 1, content.index(b"mdhd") + 16)[0])
    assert count == len(seconds) and content.index(b"moov") > content.index(b"mdat"), "expected one entry for all frames, and the index at the end"
    table = np.array([[1, round(scale * duration)] for duration in seconds], ">u4").tobytes()
    changed = bytearray(content[:place + 8] + np.array([len(seconds)], ">u4").tobytes() + table + content[place + 20:])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        start = content.index(name) - 4
        changed[start:start + 4] = np.array([int(np.frombuffer(content, ">u4", 1, start)[0]) + 8 * len(seconds) - 8], ">u4").tobytes()
    return bytes(changed).replace(b"edts", b"free")  # an edit list that ends with the old duration


def test_frames_of_a_variable_rate_have_the_times_of_the_file(scene, tmp_path):
    "kind: 5 | what: an MP4 file with a variable frame rate | gets: the presentation time of each frame, within 2 ms"
    video = cv2.VideoWriter(str(tmp_path / "even.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (240, 240))
    for number in range(8):
        video.write(np.roll(scene, number, axis=1))
    video.release()
    durations = [0.04, 0.04, 0.2, 0.04, 0.5, 0.08, 0.04, 0.04]
    (tmp_path / "v.mp4").write_bytes(with_durations((tmp_path / "even.mp4").read_bytes(), durations))
    assert np.allclose([frame.seconds for frame in read_frames(tmp_path / "v.mp4")], np.cumsum([0, *durations[:-1]]), atol=0.002)


def test_a_video_that_ends_early_is_reported(landmarker, scene, tmp_path, capsys):
    "kind: 5 | what: a video whose second half is missing | gets: the existing frames, and a line with the number that the file announces"
    write_video(tmp_path / "v.avi", scene, 10, 20)
    content = (tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[:len(content) // 2])
    assert predict_files(landmarker, [tmp_path / "v.avi", tmp_path / "cut.avi"], tmp_path / "out", "json", show_progress=True) == []
    whole, cut = (line for line in capsys.readouterr().out.splitlines() if "frames/s" in line)
    count = len(json.loads((tmp_path / "out" / "cut.json").read_text())["frames"])
    assert "ends early" not in whole and 5 <= count <= 10 and f"{count} frames" in cut and "it ends early, 20 are announced" in cut


def test_standard_output_is_json_lines_for_photos_and_videos(landmarker, scene, tmp_path, capsys):
    "kind: 21 | what: JSON for images and videos on standard output | gets: one JSON object per line"
    write_video(tmp_path / "v.avi", scene, 10, 4)
    Image.fromarray(scene).save(tmp_path / "p.png")
    predict_files(landmarker, [tmp_path], None, "json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("frame") for line in lines] == [None, 0, 1, 2, 3] and all(len(line["faces"]) == 1 for line in lines)


@pytest.mark.parametrize("lost", [1, 10])
def test_a_lost_face_keeps_its_id(landmarker, scene, lost):
    "kind: 19 | what: one or ten black frames in a video | gets: the same id afterwards, and no further frame lost"
    tracker, ids = FaceTracker(landmarker), []
    for number in range(24):
        image = np.zeros_like(scene) if 8 <= number < 8 + lost else np.roll(scene, number, axis=1)
        ids.append([face.track_id for face in tracker.next(image, number / 30)])
    assert ids[:8] == [[1]] * 8 and ids[8:8 + lost] == [[]] * lost and all(one in ([], [1]) for one in ids) and ids[-2:] == [[1], [1]]
    if lost == 1:
        assert ids[9] == [1], "only black frames are lost"


@pytest.mark.parametrize("wall", [True, False])
def test_a_cut_to_another_face_starts_a_new_id(landmarker, scene, wall):
    "kind: 19 | what: a video that cuts to another face in the same place | gets: a new id, and points that were not searched for in the crop of the previous face"
    other = np.repeat(cv2.resize(synthetic_faces(3, seed=3, workers=1).images[2], (120, 120))[..., None], 3, axis=2)
    second = cv2.copyMakeBorder(other, 60, 60, 60, 60, cv2.BORDER_REPLICATE) if wall else scene.copy()
    second[60:180, 60:180] = other
    tracker, found = FaceTracker(landmarker), []
    for number in range(12):
        found.append(tracker.next(second if number >= 6 else scene, number / 30))
    assert [[face.track_id for face in faces] for faces in found] == [[1]] * 6 + [[2]] * 6
    assert np.abs(found[6][0].points - landmarker.find_faces(second)[0].points).max() < 1


def test_an_animation_is_tracked_and_predict_reports_that_it_uses_the_first_image(landmarker, scene, tmp_path, capsys):
    "kind: 5 | what: an animated GIF, WebP or PNG | gets: track reads its frames and their times; predict reports how many images the file contains"
    images = [Image.fromarray(np.roll(scene, 3 * number, axis=1)) for number in range(3)]
    for ending in ("gif", "webp", "png"):
        images[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=images[1:], duration=[40, 120, 40])
        frames = list(track(tmp_path / f"a.{ending}", landmarker))
        assert np.allclose([frame.seconds for frame in frames], [0, 0.04, 0.16]) and [[face.track_id for face in frame.faces] for frame in frames] == [[1]] * 3
    images[0].save(tmp_path / "single.gif")
    assert predict_files(landmarker, [tmp_path], tmp_path / "out", "csv") == []
    said = capsys.readouterr().err
    assert said.count("holds 3 images, of which the first was predicted") == 3 and "single.gif" not in said


def test_a_drawn_video_keeps_an_odd_row_and_column(tmp_path):
    "kind: 23 | what: a video with an odd width and height, which encoders refuse | gets: the last row and column are repeated, none is cut off"
    image = np.zeros((61, 81, 3), np.uint8)
    image[-4:], image[:, -4:] = 255, 255
    video = VideoFile(tmp_path / "v.mp4", (81, 61), 10)
    video.write(image, 0.0)
    video.close()
    drawn = next(iter(read_frames(tmp_path / "v.mp4"))).image
    assert drawn.shape == (62, 82, 3) and drawn[-4:, :60].mean() > 200 and drawn[:40, -4:].mean() > 200


@pytest.mark.parametrize("out", ["labels", "photos", "."])
def test_labelme_finds_the_image_from_any_folder(landmarker, scene, tmp_path, monkeypatch, out):
    "kind: 10 | what: --format labelme with --out in another folder than the images | gets: the relative path to the image, as LabelMe expects it"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        Image.fromarray(scene).save(tmp_path / "photos" / name)
    assert predict_files(landmarker, ["photos"], out, "labelme", show_progress=False) == []
    for name in ("a.json", "more/b.json"):
        document = tmp_path / out / name
        assert (document.parent / json.loads(document.read_text())["imagePath"]).is_file()


def test_faces_that_pass_each_other_far_apart_keep_their_ids(landmarker, scene):
    "kind: 19 | what: two faces that move towards and past each other | gets: two ids"
    wide = np.zeros((240, 620, 3), np.uint8)
    tracker, places = FaceTracker(landmarker), {}
    for number in range(20):
        image = wide.copy()
        image[:, number * 2:number * 2 + 240] = scene
        image[:, 380 - number * 2:620 - number * 2] = scene[:, ::-1]
        for face in tracker.next(image, number / 30):
            places.setdefault(face.track_id, []).append(face.crop.center[0])
    assert sorted(places) == [1, 2] and all(len(place) >= 18 for place in places.values())
    assert sorted(np.sign(place[-1] - place[0]) for place in places.values()) == [-1, 1]


def test_smoothing_can_be_switched_off(landmarker, scene, tmp_path):
    "kind: 20 | what: track(smoothing=False) | gets: the points of each frame alone"
    write_video(tmp_path / "v.avi", scene, 30, 5)
    raw = [frame.faces[0].points for frame in track(tmp_path / "v.avi", landmarker, smoothing=False)]
    image = next(iter(read_frames(tmp_path / "v.avi"))).image
    assert np.array_equal(raw[0], landmarker.find_faces(image)[0].points) and len(raw) == 5


def test_the_filter_lags_little_at_natural_sway():
    "kind: 20 | what: a face that sways | gets: an error below 0.5% of the interocular distance and less than 40% of the jitter"
    times = np.arange(120) / 30
    truth = MEAN_FACE + 10 * np.sin(2 * np.pi * 0.5 * times)[:, None, None]
    seen, smoother = truth + np.random.default_rng(0).normal(0, 0.08, truth.shape), OneEuroFilter()
    smooth = np.array([smoother(points, seconds) for points, seconds in zip(seen, times)])
    between_eyes = np.linalg.norm(MEAN_FACE[0] - MEAN_FACE[1])
    assert np.linalg.norm(smooth - truth, axis=2)[10:].mean() < 0.005 * between_eyes
    rest = np.array([OneEuroFilter()(MEAN_FACE, 0), *[smoother(MEAN_FACE + noise, 5 + n / 30) for n, noise in enumerate(seen[:60] - truth[:60])]])[30:]
    assert np.diff(rest, axis=0).std() < 0.4 * np.diff(seen - truth, axis=0).std()


def test_predictions_compare_and_landmarkers_pickle(landmarker, scene):
    "kind: 22 | what: prediction == prediction, or a pickled landmarker | gets: True, and the same prediction"
    prediction = landmarker.predict(scene)
    again = pickle.loads(pickle.dumps(landmarker)).predict(scene)
    assert again == prediction and again.faces[0] in {prediction.faces[0]} and pickle.loads(pickle.dumps(prediction)) == prediction
