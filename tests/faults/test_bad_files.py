"""Broken or malicious images, models, records, settings and videos: a one-line error names the file, and no code is run."""

import dataclasses
import io
import json
import os
import struct
import warnings
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from test_bad_input import BAD, csv_text, folder_of_300w

from facekp.cli import main
from facekp.config import load_settings
from facekp.data.kaggle_table import _blocks
from facekp.data.sources import load_faces
from facekp.errors import UserError
from facekp.images import read_image
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.session import DEFAULT_MODEL, DETECTOR_FILE
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.video import read_frames

GREY = np.random.default_rng(0).integers(0, 256, (120, 100), dtype=np.uint8)


def encoded(ending: str) -> bytes:
    "Encode an image in a format."
    return cv2.imencode(ending, GREY)[1].tobytes()


def png(width: int, height: int, content: bytes = b"", checksum: bool = True) -> bytes:
    "Return a PNG whose header claims a size."
    def chunk(kind: bytes, part: bytes) -> bytes:
        return struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part) if checksum else 7)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))


GIANT = png(200_000, 200_000)
PICTURES = {
    # defect: (content of the file, words of the message)
    "empty": (b"", ["not an image"]),
    "zeros": (bytes(4096), ["not an image"]),
    "text": (b"hello", ["not an image"]),
    "html page": (b"<!doctype html><html>sign in</html>", ["not an image"]),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', ["not an image"]),
    "executable": (b"\x7fELF" + bytes(200), ["not an image"]),
    "python": (b"import os\nos.abort()\n", ["not an image"]),
    "zip": (b"PK\x03\x04" + bytes(60), ["not an image"]),
    "png of 40 billion pixels": (GIANT, ["200000 x 200000 pixels", "set max_pixels"]),
    "png without pixels": (png(0, 0), ["broken"]),
    "png without data": (png(100, 100), ["not an image"]),
    "png with a wrong checksum": (png(100, 100, bytes(10_100), checksum=False), ["not an image"]),
    "half a png": (encoded(".png")[:4000], ["not an image"]),
    "half a jpeg": (encoded(".jpg")[:4000], ["not an image"]),
    "half a bmp": (encoded(".bmp")[:4000], ["not an image"]),
    "half a tiff": (encoded(".tiff")[:4000], ["not an image"]),
    "half a webp": (encoded(".webp")[:3000], ["not an image"]),
    "jpeg of 65,000 x 65,000": (encoded(".jpg").replace(struct.pack(">HH", 120, 100), struct.pack(">HH", 65_000, 65_000), 1),
                                ["65000 x 65000 pixels"]),
    "bmp of minus one": (encoded(".bmp")[:18] + struct.pack("<ii", -1, -1) + encoded(".bmp")[26:], ["broken"]),
    "gif of no size": (b"GIF89a" + struct.pack("<HH", 0, 0) + b"\x00\x00\x00;", ["broken"]),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n", ["not an image"]),
}


@pytest.mark.parametrize("case", PICTURES)
def test_bad_pictures(case, tmp_path):
    content, words = PICTURES[case]
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
    message = str(caught.value)
    assert "broken.png" in message and [word for word in words if word not in message] == [] and "\n" not in message, message


def test_a_limit_for_photos_of_a_labelled_folder_can_be_set(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="one.png: 200000 x 200000 pixels, expected 1 to 100,000,000; .*set max_pixels"):
        load_faces(folder_of_300w(picture=GIANT)(tmp_path))
    (tmp_path / "fine").mkdir()
    fine = folder_of_300w()(tmp_path / "fine")
    monkeypatch.setattr("facekp.data.w300.MAX_PIXELS", 100)
    with pytest.raises(UserError, match="expected 1 to 100;"):
        load_faces(fine)


def test_a_limit_for_what_a_zip_unpacks_to_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setattr("facekp.data.archives.MAX_UNPACKED", 10_000)
    np.savez(tmp_path / "faces.npz", images=np.zeros((9, 96, 96), np.uint8))
    with pytest.raises(UserError, match="faces.npz: unpacks to .*set facekp.data.archives.MAX_UNPACKED"):
        load_faces(tmp_path / "faces.npz")


def test_a_small_zip_of_millions_of_broken_rows_does_not_fill_the_memory(tmp_path, monkeypatch):
    "The file has 6 KB; with 9 KB of memory per row it would need 18 GB."
    header = ",".join([*COLUMNS, "Image"])
    with zipfile.ZipFile(tmp_path / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("training.csv", header + "\n" + "1\n" * 2_000_000)
    read, block = [], _blocks
    monkeypatch.setattr("facekp.data.kaggle_table.MAX_PROBLEMS", 1_000)
    monkeypatch.setattr("facekp.data.kaggle_table._blocks", lambda lines, size: (read.append(len(part)) or part for part in block(lines, size)))
    with pytest.raises(UserError, match="row 0: has 1 cells, expected 31"):
        load_faces(tmp_path / "faces.zip")
    assert sum(read) < 3_000


@pytest.mark.parametrize("places", [1, 2])  # a zip contains each name twice
@pytest.mark.parametrize(("name", "member"), [("faces.npz", "images\u00e9.npy"), ("faces.zip", "\u00e9/training.csv")])
def test_a_name_in_a_zip_that_is_no_text(tmp_path, name, member, places):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, b"1")
    (tmp_path / name).write_bytes(buffer.getvalue().replace("\u00e9".encode(), b"\xe1\xe1", places))
    with pytest.raises(UserError) as caught:
        load_faces(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert "is not a zip file, or a damaged one" in str(caught.value) or (name, places) == ("faces.npz", 1)  # here the error about a missing array comes first


def test_a_name_of_two_lines_is_told_in_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.npz", "w") as archive:
        archive.writestr("image\n.npy", b"1")
    with pytest.raises(UserError) as caught:
        load_faces(tmp_path / "faces.npz")
    assert "found image" in str(caught.value) and "\n" not in str(caught.value)


def test_a_zip_that_holds_itself_has_an_end(tmp_path, monkeypatch):
    inner = csv_text("x", "x")(tmp_path).read_bytes()
    for _ in range(6):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("training.zip", inner)
        inner = buffer.getvalue()
    (tmp_path / "faces.zip").write_bytes(inner)
    with pytest.raises(UserError, match="faces.zip: holds no training.csv"):
        load_faces(tmp_path / "faces.zip")


# models

def keras_file(config: object, name: str = "m.keras", members: dict | None = None):
    "Return a file that looks like a Keras model with this configuration."
    def write(folder):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.10.0", "date_saved": "2026-01-01"}))
            archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
            for member, content in (members or {}).items():
                archive.writestr(member, content)
        return folder / name
    return write


def layer(name: str, module: str = "keras.layers", **config) -> dict:
    "Return the configuration of a model with one layer."
    part = {"class_name": name, "module": module, "config": config, "registered_name": None}
    return {"class_name": "Sequential", "module": "keras", "config": {"layers": [part]}, "registered_name": None}




def with_lambda(folder):
    "Return a model whose Lambda layer opens a file when it is built or called."
    import keras

    mark = str(folder / "harmed")
    inputs = keras.Input((96, 96, 1))
    points = keras.layers.Reshape((15, 2))(keras.layers.Dense(30)(keras.layers.Flatten()(inputs)))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: (open(mark, "w").close(), x)[1], output_shape=(15, 2))(points))
    model.save(folder / "m.keras")
    os.path.exists(mark) and os.unlink(mark)
    return folder / "m.keras"


def of_other_shape(folder):
    "Return a model that predicts 14 points."
    import keras

    keras.Sequential([keras.Input((96, 96, 1)), keras.layers.Flatten(), keras.layers.Dense(28), keras.layers.Reshape((14, 2))]).save(folder / "m.keras")
    return folder / "m.keras"


def old_format(folder):
    "Return an HDF5 file with the extension of the other format."
    import h5py

    with h5py.File(folder / "m.keras", "w") as file:
        file.attrs["model_config"] = json.dumps(layer("Lambda"))
    return folder / "m.keras"


MODELS = {
    "keras file that is none": (csv_text("hello", "m.keras"), ["m.keras", "can be loaded safely"]),
    "empty keras file": (csv_text("", "m.keras"), ["m.keras", "can be loaded safely"]),
    "half a zip as model": (csv_text(b"PK\x03\x04half", "m.keras"), ["m.keras", "can be loaded safely"]),
    "model without description": (csv_text(zlib.compress(b"1"), "m.keras"), ["m.keras"]),
    "description that is no JSON": (keras_file("{'a': 1}"), ["m.keras", "can be loaded safely"]),
    "description without end": (keras_file("[" * 100_000), ["m.keras", "can be loaded safely"]),
    "description of nothing": (keras_file({}), ["m.keras", "can be loaded safely"]),
    "Lambda": (with_lambda, ["m.keras", "Lambda", "not a plain layer"]),
    "Lambda written by hand": (keras_file(layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAA=="}})), ["not a plain layer"]),
    "a function of os": (keras_file(layer("system", "os", command="touch harmed")), ["os.system", "not a plain layer"]),
    "a function of subprocess": (keras_file(layer("run", "subprocess", args=["touch", "harmed"])), ["subprocess.run"]),
    "Keras' own fetcher": (keras_file(layer("get_file", "keras.utils", origin="file:///etc/passwd")), ["keras.utils.get_file"]),
    "a layer that reads files": (keras_file(layer("StringLookup", vocabulary="/etc/passwd")), ["StringLookup"]),
    "a saved graph": (keras_file(layer("TFSMLayer", filepath="elsewhere")), ["TFSMLayer"]),
    "unsafe loading switched on": (keras_file(layer("enable_unsafe_deserialization", "keras.config")), ["keras.config"]),
    "model of 14 points": (of_other_shape, ["m.keras", "(14, 2)", "(15, 2)"]),
    "HDF5 under another name": (old_format, ["m.keras", "can be loaded safely"]),
    "no such model": (lambda folder: folder / "nowhere.keras", ["nowhere.keras", "no such model"]),
    "a folder without a model": (lambda folder: folder, ["no such model"]),
    "onnx that is none": (csv_text("hello", "m.onnx"), ["m.onnx", "not a model"]),
    "empty onnx": (csv_text("", "m.onnx"), ["m.onnx", "not a model"]),
    "half an onnx": (lambda folder: csv_text(DEFAULT_MODEL.read_bytes()[:50_000], "m.onnx")(folder), ["m.onnx", "not a model"]),
    "another task's onnx": (lambda folder: DETECTOR_FILE, ["face_detector.onnx", "expected one input"]),
    "pickle as onnx": (csv_text(b"\x80\x04cos\nsystem\n.", "m.onnx"), ["m.onnx", "not a model"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_bad_models(case, tmp_path):
    write, words = MODELS[case]
    path = write(tmp_path)
    with pytest.raises(UserError) as caught:
        load_keypoint_model(path)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [] and "\n" not in message, message
    assert not (tmp_path / "harmed").exists()


# records and states of training runs

def a_record() -> dict:
    "Return the record of a run as JSON data."
    from facekp.experiments.record import Record

    metrics = dict.fromkeys(("rmse", "accuracy", "nme_eye_centers", "pck"), 1.0) | {"intervals": {}}
    told = {"name": "x", "sha256": {}, "n_train": 1, "n_validation": 1, "n_test": 1}
    return dataclasses.asdict(Record("mean", "masked", 0, "quick", 0, told, {}, 30, 0, 0, 0.0, metrics))


def without(*names: str) -> str:
    "Return a record without a key."
    record = a_record()
    part = record
    for name in names[:-1]:
        part = part[name]
    del part[names[-1]]
    return json.dumps(record)


RECORDS = {
    "empty": "", "half": json.dumps(a_record())[:200], "no JSON": "model: mean", "a list": "[1, 2]", "a number": "7", "null": "null",
    "without end": "[" * 100_000, "another program's": '{"name": "x"}', "without the model": without("model"), "without its faces": without("data", "sha256"),
    "without its score": without("metrics", "rmse"), "of words": json.dumps(a_record() | {"seconds": "long"}),
    "data of numbers": json.dumps(a_record() | {"data": 5}), "binary": "\x00\x01\x02", "with one thing more": json.dumps(a_record() | {"extra": 1}),
}


@pytest.mark.parametrize("case", RECORDS)
def test_bad_records(case, tmp_path):
    from facekp.experiments.record import read_record

    (tmp_path / "r.json").write_text(RECORDS[case])
    with pytest.raises(UserError, match="r.json: not the record of a run"):
        read_record(tmp_path / "r.json")


def a_study(folder):
    "Write a study of one run on two test faces."
    from facekp.experiments.record import Record
    from facekp.experiments.results import study_from_records, write_study

    return write_study(study_from_records({"mean-seed0": Record(**a_record() | {"squared_errors": [1.0, 2.0]})}, np.arange(2)), folder)


BROKEN_STUDIES = {
    "no meta": lambda folder: (folder / "meta.json").unlink(), "meta is no JSON": lambda folder: (folder / "meta.json").write_text("x"),
    "meta is a list": lambda folder: (folder / "meta.json").write_text("[]"), "no schema": lambda folder: (folder / "meta.json").write_text("{}"),
    "a newer schema": lambda folder: (folder / "meta.json").write_text('{"schema": 9}'), "no errors": lambda folder: (folder / "errors.npz").unlink(),
    "half of the errors": lambda folder: (folder / "errors.npz").write_bytes((folder / "errors.npz").read_bytes()[:60]),
    "empty errors": lambda folder: (folder / "errors.npz").write_bytes(b""), "an empty table": lambda folder: (folder / "runs.csv").write_text(""),
    "a run without errors": lambda folder: (folder / "runs.csv").write_text((folder / "runs.csv").read_text().replace("mean-seed0", "cnn-seed0")),
    "a table without runs": lambda folder: (folder / "runs.csv").write_text("model\nmean\n"), "no history": lambda folder: (folder / "history.csv").unlink(),
    "a table cut in its header": lambda folder: (folder / "runs.csv").write_text((folder / "runs.csv").read_text().split("\n")[0]),
    "a history of zero bytes": lambda folder: (folder / "history.csv").write_bytes(bytes(50)),
    "a run twice": lambda folder: (folder / "runs.csv").write_text((folder / "runs.csv").read_text() + (folder / "runs.csv").read_text().split("\n", 1)[1]),
    "errors of one face more": lambda folder: np.savez(folder / "errors.npz", run=["mean-seed0"], squared_errors=np.ones((1, 3)), group=np.arange(2)),
}


@pytest.mark.parametrize("case", BROKEN_STUDIES)
def test_bad_results(case, tmp_path):
    from facekp.experiments.results import read_study

    folder = a_study(tmp_path / "study")
    assert read_study(folder).runs.model.tolist() == ["mean"]
    BROKEN_STUDIES[case](folder)
    with pytest.raises(UserError, match="study: not the results of a study"):
        read_study(folder)


def test_what_a_killed_process_left_beside_results_is_not_read(tmp_path):
    from facekp.experiments.results import read_study

    folder = a_study(tmp_path / "study")
    (folder / ".runs-abcdefgh-unfinished.csv").write_text("run,model\ncnn")
    assert read_study(folder).runs.index.tolist() == ["mean-seed0"]


STATES = {
    "empty": b"", "text": b"hello", "half": None, "npz of something else": "other",
}


@pytest.mark.parametrize("case", STATES)
def test_bad_states(case, tmp_path):
    from facekp.models.regression import build_baseline
    from facekp.synthetic.renderer import synthetic_faces
    from facekp.training.loop import fit

    faces, state, options = synthetic_faces(8), tmp_path / "state.npz", {"batch_size": 8, "images_shown": 8, "run_folder": tmp_path, "show_progress": False}
    if case == "half":
        fit(build_baseline(), faces, faces, **options)
        state.write_bytes(state.read_bytes()[:-1000])
    elif case == "npz of something else":
        np.savez(state, images=np.zeros(3))
    else:
        state.write_bytes(STATES[case])
    with pytest.raises(UserError, match="state.npz: not the state of this training run"):
        fit(build_baseline(), faces, faces, resume=True, **options)


# settings

SETTINGS = {
    "no section": ("seed = 0", ["settings.ini", "expected lines like"]),
    "no value": ("[course]\nseed", ["settings.ini", "expected lines like"]),
    "binary": (b"\xff\xfe[course]\n\x00", ["settings.ini"]),
    "a section twice": ("[course]\n[course]\n", ["settings.ini", "expected lines like"]),
    "a key twice": ("[course]\nseed = 1\nseed = 2\n", ["settings.ini", "expected lines like"]),
    "unknown section": ("[corse]\n", ["unknown section [corse]", "did you mean 'course'"]),
    "unknown key": ("[course]\nsede = 1\n", ["unknown key 'sede'", "did you mean 'seed'"]),
    "a seed in words": ("[course]\nseed = one\n", ["seed = 'one'", "a whole number"]),
    "a seed with a point": ("[course]\nseed = 1.5\n", ["seed = '1.5'", "a whole number"]),
    "a seed below zero": ("[course]\nseed = -1\n", ["seed = -1", "0 or more"]),
    "a share of two": ("[course]\ntest_share = 2\n", ["test_share = 2", "between 0 and 1"]),
    "a share that is none": ("[course]\ntest_share = nan\n", ["test_share = nan", "between 0 and 1"]),
    "a share in words": ("[course]\ngap_share = half\n", ["gap_share = 'half'", "a number"]),
    "no faces in a step": ("[quick]\nbatch_size = 0\n", ["batch_size = 0", "1 or more"]),
    "unknown profile": ("[course]\nprofile = fast\n", ["profile 'fast' is unknown"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_bad_settings(case, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    content, words = SETTINGS[case]
    (tmp_path / "settings.ini").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_settings(start=tmp_path)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


# videos

def cut_video(folder):
    "Return the first thousand bytes of a video."
    video = cv2.VideoWriter(str(folder / "whole.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 64))
    for _ in range(5):
        video.write(np.full((64, 64, 3), 128, np.uint8))
    video.release()
    (folder / "v.avi").write_bytes((folder / "whole.avi").read_bytes()[:1000])
    return folder / "v.avi"


VIDEOS = {
    "empty": csv_text("", "v.mp4"), "text": csv_text("hello", "v.mp4"), "head alone": csv_text(b"\x00\x00\x00\x18ftypmp42" + bytes(12), "v.mp4"),
    "cut": cut_video, "zeros": csv_text(bytes(5000), "v.avi"), "list of other files": csv_text("ffconcat version 1.0\nfile /etc/passwd\n", "v.mp4"),
    "play list": csv_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "v.mp4"), "no such video": lambda folder: folder / "nowhere.mp4",
}


@pytest.mark.parametrize("case", VIDEOS)
def test_bad_videos(case, tmp_path):
    path = VIDEOS[case](tmp_path)
    with pytest.raises(UserError, match=path.name):
        list(read_frames(path))


def test_a_video_of_large_frames_is_refused(tmp_path):
    cut_video(tmp_path)
    with pytest.raises(UserError, match="whole.avi: 64 x 64 pixels"):
        list(read_frames(tmp_path / "whole.avi", max_pixels=1000))


def test_there_are_many_of_them():
    from test_bad_input import FINE

    assert FINE and len(KEYPOINTS) == 15
    assert len(BAD) + len(PICTURES) + len(MODELS) + len(RECORDS) + len(STATES) + len(SETTINGS) + len(VIDEOS) >= 160


@pytest.mark.parametrize("words", [["predict", "a.png"], ["predict", "a.png", "--model", "m.keras"], ["compare", "r.json"], ["evaluate", "--model", "m.keras"],
                                   ["data", "info", "nowhere.csv"], ["data", "check", "a.png"], ["predict", "v.mp4"]])
def test_the_command_says_one_line_and_ends_with_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(GIANT)
    (tmp_path / "r.json").write_text("[]")
    (tmp_path / "v.mp4").write_bytes(b"no video")
    keras_file(layer("system", "os", command="true"))(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("facekp: ") and said.count("\n") == 1 and any(word in said for word in words[1:]), said
