"Further user cases: rotated images, two training runs in one folder, Ctrl-C at the start, files of another kind, links, webcams, global state."

import io
import logging
import os
import random
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekp.audit import audit
from facekp.audit_report import audit_text
from facekp.cli import _was_interrupted, main
from facekp.data.label_evidence import find_misfit
from facekp.data.npz import load_npz, save_npz
from facekp.data.sources import load_faces
from facekp.data.units import raise_units
from facekp.data.w300 import _find_image
from facekp.errors import UserError
from facekp.folder_lock import lock_folder
from facekp.images import read_image
from facekp.inference.landmarker import load
from facekp.inference.tracking import FaceTracker
from facekp.jobs import export_model, train
from facekp.synthetic.renderer import synthetic_faces
from facekp.video import read_frames

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "TF_CPP_MIN_LOG_LEVEL": "2"}
SIGNALS = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")


@pytest.fixture(scope="module")
def faces():
    "Return complete synthetic faces."
    return synthetic_faces(40, seed=11, workers=1)


@pytest.mark.parametrize(("turn", "advice"), [
    (lambda images: images.transpose(0, 2, 1), "transpose(0, 2, 1)"), (lambda images: images[:, :, ::-1], "images[:, :, ::-1]"),
    (lambda images: images[:, ::-1, ::-1], "images[:, ::-1, ::-1]"), (lambda images: np.rot90(images, 3, (1, 2)), "numpy.rot90(images, 1, (1, 2))"),
    (lambda images: np.rot90(images, 1, (1, 2)), "numpy.rot90(images, 3, (1, 2))"), (lambda images: np.roll(images, 1, axis=0), "images of other rows")])
def test_rotated_images_with_correct_labels_are_reported_with_the_remedy(turn, advice, faces):
    "kind: 2 | what: images transposed, mirrored, rotated or in another order, with correct labels | gets: an error or warning in data info, data check and train that shows how to restore them"
    from dataclasses import replace

    turned = replace(faces, images=np.ascontiguousarray(turn(faces.images)))
    told = find_misfit(turned.images, turned.points)
    assert advice in told and told in audit(turned).misfit
    assert advice in " ".join(audit_text(audit(turned)).split())
    if "use " in told:
        assert find_misfit(eval(told.split("use ")[1], {"images": turned.images, "numpy": np}), turned.points) == ""


def test_correct_images_are_not_reported_as_rotated(faces):
    "kind: 2 | what: correct images, synthetic ones and sets of few faces | gets: no warning"
    assert find_misfit(faces.images, faces.points) == "" and find_misfit(faces.images[:3], faces.points[:3]) == ""
    for seed in range(3):
        some = load_faces("synthetic:60", seed=seed)
        assert find_misfit(some.images, some.points) == "" and "images the" not in audit_text(audit(some))


def test_training_on_rotated_images_warns(faces, desk):
    "kind: 2 | what: a training run on transposed images | gets: a one-line warning with the conversion"
    from dataclasses import replace

    with pytest.warns(UserWarning, match="transposed"):
        train("mean", "run", data=replace(faces, images=np.ascontiguousarray(faces.images.transpose(0, 2, 1))))


def test_mirrored_axes_are_named_even_if_most_points_are_missing():
    "kind: 2 | what: x and y exchanged, or y counted from the bottom, in a set with four points of most faces | gets: an error that names the axis, not a unit conversion that would spoil the labels"
    some = load_faces("synthetic:60")
    for points, advice in ((some.points[..., ::-1], "points[..., ::-1]"), (some.points * [1, -1] + [0, 95], "95 - y")):
        with pytest.raises(UserError, match="mirror images") as error:
            raise_units("x", points, some.images)
        assert advice in str(error.value)


def test_two_training_runs_in_one_folder_exclude_each_other(faces, desk):
    "kind: 1, 9 | what: a second training run in the folder of an active one, with or without --overwrite and --resume | gets: a one-line error, and the first run continues"
    with lock_folder("run"):
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(UserError, match="another process is writing there now"):
                train("mean", "run", data=faces, **options)
    assert not Path("run").exists(), "an empty folder is left"
    train("mean", "run", data=faces)
    assert sorted(os.listdir("run")) == ["model.keras", "record.json", "run.json"]


@SIGNALS
def test_the_lock_of_a_killed_process_is_released(desk):
    "kind: 1 | what: the process of a training run was killed | gets: the next training run can start in the same folder"
    code = "import sys, time\nfrom facekp.folder_lock import lock_folder\nwith lock_folder('run'):\n    print('ready', flush=True)\n    time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match="another process"), lock_folder("run"):
        pass
    owner.kill()
    owner.wait()
    assert Path("run/.lock").exists()
    with lock_folder("run"):
        pass
    assert os.listdir("run") == []


@SIGNALS
def test_closing_the_terminal_keeps_finished_work(desk):
    "kind: 7 | what: the terminal is closed (SIGHUP) while a folder is predicted to CSV | gets: a table of the rows so far, and exit status 130"
    os.mkdir("in")
    for number in range(400):
        Path(f"in/{number}.png").write_bytes(Path("a.png").read_bytes())
    command = subprocess.Popen([sys.executable, "-m", "facekp", "predict", "in", "--format", "csv", "--out", "out"], env=ENVIRONMENT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # nohup would make the process ignore it
    command.stdout.readline()
    command.send_signal(signal.SIGHUP)
    said = command.communicate(timeout=60)[1]
    assert command.returncode == 130 and "sources are done, in out" in said and len(Path("out/predictions.csv").read_text().splitlines()) > 1


@SIGNALS
def test_an_interrupt_while_the_command_is_imported_is_one_line(desk):
    "kind: 7 | what: Ctrl-C while Python imports the command | gets: a one-line message and exit status 130"
    Path("slow").mkdir()
    Path("slow/argparse.py").write_text("import time\nopen('started', 'w').close()\ntime.sleep(60)\n")  # replaces the command's first import
    command = subprocess.Popen([sys.executable, "-m", "facekp", "--help"], env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(["slow", ENVIRONMENT["PYTHONPATH"]])},
                               stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if Path("started").exists():
            break
        time.sleep(0.05)
    time.sleep(0.1)
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=60)[1] == "facekp: stopped\n" and command.returncode == 130


def test_an_import_that_turns_an_interrupt_into_an_error_is_recognised():
    "kind: 7 | what: Ctrl-C that a C extension module turns into ImportError | gets: the message 'stopped'"
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    assert _was_interrupted(error) and not _was_interrupted(ImportError("other")) and not _was_interrupted(None)


@SIGNALS
def test_rendering_processes_print_no_traceback(desk):
    "kind: 7 | what: Ctrl-C sent to all processes of a terminal while faces are rendered | gets: a one-line message"
    command = subprocess.Popen([sys.executable, "-m", "facekp", "data", "make", "synthetic:20000", "--out", "x.npz"], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    time.sleep(6)
    os.killpg(command.pid, signal.SIGINT)
    said = command.communicate(timeout=60)[1]
    assert "Traceback" not in said and said.endswith("facekp: stopped\n") and command.returncode == 130 and not Path("x.npz").exists()


FOREIGN = {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "git lfs pull", "<!DOCTYPE html><html></html>": "web page", "7z\xbc\xaf'": "7z archive", "%PDF-1.4": "PDF"}


@pytest.mark.parametrize("content", FOREIGN)
def test_files_of_another_kind_are_named(content, desk, capsys):
    "kind: 14 | what: a Git LFS pointer, a web page, an archive or a PDF instead of an image, a table, an .npz file or a model | gets: an error that states what the file is, and what to do"
    for name in ("x.npz", "x.zip", "training.csv", "x.7z", "x.jpg", "x.onnx"):
        Path(name).write_bytes(content.encode("latin-1"))
        words = {"x.jpg": ["predict", name], "x.onnx": ["predict", "a.png", "--model", name]}.get(name, ["data", "info", name])
        assert main(words) == 2
        assert FOREIGN[content] in capsys.readouterr().err, name


def test_a_compressed_table_and_a_workbook_are_named(desk, capsys):
    "kind: 14 | what: training.csv.gz in a folder, a gzip file or workbook named .csv, a zip with a password | gets: an error: 'unpack it first' or 'save the table as CSV'"
    os.mkdir("k")
    Path("k/training.csv.gz").write_bytes(b"\x1f\x8b\x08\0")
    Path("g.csv").write_bytes(b"\x1f\x8b\x08\0\r\x10")
    Path("w.csv").write_bytes(b"PK\x03\x04xxxx")
    with zipfile.ZipFile("p.zip", "w") as archive:
        archive.writestr("training.csv", "a,b\n1,2\n")
    content = bytearray(Path("p.zip").read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    Path("p.zip").write_bytes(content)
    for name, answer in {"k": "compressed with gzip; unpack it first", "g.csv": "compressed with gzip", "w.csv": "save the table as CSV", "p.zip": "password; unpack it first"}.items():
        assert main(["data", "info", name]) == 2
        said = capsys.readouterr().err
        assert answer in said and "ZipInfo" not in said and len(said.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are a POSIX matter")
def test_a_pipe_named_npz_does_not_hang(desk, capsys):
    "kind: 13 | what: a pipe named x.npz as data | gets: a one-line error"
    os.mkfifo("x.npz")
    assert main(["data", "info", "x.npz"]) == 2 and "a pipe or device" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need permissions on Windows")
def test_a_broken_link_is_named(desk, capsys):
    "kind: 13 | what: a link named b.jpg to a disk that is not mounted, among images | gets: an error with its name, and the results of the other images"
    os.mkdir("in")
    Path("in/a.png").write_bytes(Path("a.png").read_bytes())
    os.symlink("nowhere", "in/b.jpg")
    assert main(["predict", "in", "--format", "json", "--out", "out"]) == 2
    assert "in/b.jpg: a link to a file that is not there" in capsys.readouterr().err and os.listdir("out") == ["a.json"]


@pytest.mark.parametrize(("source", "answer"), [
    (None, "cv2.imread returns None"), (b"", "it is empty"), ("", "without a file name"), ("https://x.org/a.jpg", "a web address"), ("iVBORw0KGgo/" * 900, "base64.b64decode"),
    ({}, "a dict is not an image"), (5, "a int is not an image"), (io.StringIO("x"), "'rb'"), (".", "a folder"), (Path("gone.jpg"), "no such file")])
def test_inputs_that_are_not_images_are_refused_in_a_short_line(source, answer, desk):
    "kind: 11 | what: None from cv2.imread, no bytes, base64, a web address, a folder, a file opened as text | gets: a short error with the cause"
    with pytest.raises(UserError) as error:
        read_image(source)
    assert answer in str(error.value) and len(str(error.value)) < 300 and "unpack_from" not in str(error.value)


def test_a_file_that_was_read_before_is_read_from_its_beginning(desk):
    "kind: 11 | what: an open file that was already read, as web frameworks pass it | gets: the image"
    with open("a.png", "rb") as file:
        file.read()
        assert read_image(file).shape == (40, 60, 3)


def test_lists_of_numbers_and_names_are_distinguished():
    "kind: 4, 11 | what: an image as a list of lists, a set of names, a pandas Series of names | gets: an error, an error, and the images"
    landmarker = load()
    with pytest.raises(UserError, match="numpy.asarray"):
        landmarker.predict([[1, 2], [3, 4]])
    with pytest.raises(UserError, match="a set is not an image"):
        landmarker.predict({"a.png"})
    import pandas as pd

    for names in (pd.Series(["gone.jpg"]), np.array(["gone.jpg"])):
        with pytest.raises(UserError, match="gone.jpg: no such file"):
            landmarker.predict(names)


@pytest.mark.parametrize(("source", "answer"), [(-1, "webcam -1: expected 0 or more"), (True, "a bool is not a video"), (None, "a NoneType"), ("gone.mp4", "no such file"), (".", "a folder"), (b"x", "a bytes")])
def test_inputs_that_are_not_videos_are_refused_before_opencv(source, answer, desk):
    "kind: 5 | what: webcam -1 (which ends OpenCV's process), True, None, a folder, a missing file | gets: a one-line error"
    with pytest.raises(UserError, match=answer.replace(".", r"\.")):
        next(read_frames(source))


@pytest.mark.parametrize("options", [{"search_every": 0}, {"search_every": -1}, {"search_every": 1.5}, {"smoothing": "no"}, {"max_lost": -1}])
def test_options_of_the_tracker_are_checked(options):
    "kind: 19 | what: search_every=0, search_every=1.5, smoothing='no' | gets: a one-line error that names the option"
    with pytest.raises(UserError, match=next(iter(options))):
        FaceTracker(None, **options)


def test_one_wrong_option_is_named_alone(capsys, desk):
    "kind: 25 | what: --min-face-size 2 | gets: an error with this option and its range, and no other"
    assert main(["predict", "a.png", "--format", "csv", "--min-face-size", "2"]) == 2
    said = capsys.readouterr().err
    assert "min_face_size=2" in said and "passes" not in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252"])
def test_settings_in_another_encoding_are_refused_and_not_ignored(encoding, desk, capsys):
    "kind: 24 | what: settings.ini in UTF-16, as Windows PowerShell writes it, or in cp1252 | gets: a one-line error that names UTF-8; the settings are not ignored"
    text = "[course]\n# f\u00fcr den Kurs\ndata = f.npz\n"
    Path("settings.ini").write_bytes((b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding))
    assert main(["data", "info"]) == 2
    said = capsys.readouterr().err
    assert "settings.ini: is not UTF-8 text" in said and "save it as UTF-8" in said and said.count("\n") == 1


def test_an_empty_folder_name_is_refused(faces, desk, capsys):
    "kind: 9 | what: --out '', which an unset shell variable produces | gets: a one-line error; nothing is written to the working folder"
    save_npz(faces, "f.npz")
    for words in (["predict", "a.png"], ["data", "make", "synthetic:20"], ["train", "--model", "mean", "--data", "f.npz"]):
        assert main([*words, "--out", ""]) == 2 and "is empty; give ." in capsys.readouterr().err
    assert main(["data", "make", "synthetic:20", "--out", "x.csv"]) == 2 and "ending with .npz" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.png", "f.npz"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user without root permissions")
def test_a_read_only_folder_is_refused_before_work(desk, capsys):
    "kind: 9 | what: a read-only working folder, with the default --out | gets: a one-line error before any image is predicted"
    os.chmod(".", 0o555)
    try:
        assert main(["predict", "a.png"]) == 2
        assert "predictions: no permission to write there" in capsys.readouterr().err
    finally:
        os.chmod(".", 0o755)


def test_warnings_of_the_command_are_one_line(desk, capsys):
    "kind: 17 | what: the cache cannot be written | gets: the result, and a one-line warning without a location in the code"
    Path("data").touch()  # a file where the cache folder should be
    shown = warnings.showwarning
    assert main(["data", "info", "synthetic:30"]) == 0 and warnings.showwarning is shown
    said = capsys.readouterr().err
    assert said.startswith("facekp: ") and "could not be written to the cache" in said and len(said.splitlines()) == 1


def test_the_text_of_a_score_contains_no_nan(faces, desk, capsys):
    "kind: 21 | what: scores of faces that lack most labels | gets: a dash and the reason in the text"
    from dataclasses import replace

    points = faces.points.copy()
    points[:, 3:] = np.nan
    save_npz(replace(faces, points=points), "three.npz")
    assert main(["evaluate", "--data", "three.npz"]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said and "not labelled" in said and "the faces lack the labels for it" in said


def test_an_image_with_two_files_is_refused(desk):
    "kind: 6 | what: face.jpg and face.png next to face.pts | gets: an error that names both"
    for name in ("face.jpg", "face.png", "face.pts"):
        Path(name).touch()
    with pytest.raises(UserError, match="face.jpg and face.png have its name"):
        _find_image(Path("face.pts"))
    Path("face.png").unlink()
    assert _find_image(Path("face.pts")).name == "face.jpg"


def test_a_damaged_state_is_not_mistaken_for_another_run(faces, desk):
    "kind: 1 | what: --resume with a state that was truncated, as on a full disk | gets: an error: 'damaged', with the way to continue"
    train("baseline", "run", data=faces, images=64)
    for name in ("model.keras", "record.json"):
        Path("run", name).unlink()
    Path("run/state.npz").write_bytes(Path("run/state.npz").read_bytes()[:5000])
    with pytest.raises(UserError, match="state.npz.*damaged.*--overwrite"):
        train("baseline", "run", data=faces, images=64, resume=True)


def test_training_and_export_restore_the_state_of_the_process(faces, desk):
    "kind: 15 | what: train and export in a program of the user | gets: the random state of NumPy and Python, the handlers of logging and the environment as before"
    def state():
        return random.getstate(), np.random.get_state()[1].tobytes(), list(logging.root.handlers), os.environ.get("TF_CPP_MIN_LOG_LEVEL")  # noqa: NPY002  the global state is what is looked at

    train("mean", "first", data=faces)  # changes that TensorFlow makes on import do not count
    before = state()
    train("baseline", "run", data=faces, images=64)
    assert state() == before
    export_model("run", "x.tflite", format="litert")
    assert state()[2:] == before[2:]


def random_draws():
    "Return random draws from the global generators of Python, NumPy, Keras and TensorFlow."
    import keras
    import tensorflow

    return [random.random(), np.random.random(), *np.array(keras.random.uniform((2,))), *np.array(tensorflow.random.uniform((2,)))]  # noqa: NPY002  the global state is what is looked at


@pytest.mark.parametrize("way", ["fit", pytest.param("fit_transfer", marks=pytest.mark.slow), "fit_shards", "run_trial"])
def test_functions_that_train_restore_the_random_state_of_the_program(way, faces, desk):
    "kind: 15 | what: a program draws random numbers before and after facekp.fit, fit_transfer, fit_shards or run_trial | gets: the same random numbers as without training, and the same weights for the same seed"
    from facekp.config import load_settings
    from facekp.experiments.plan import Trial, plan_experiment
    from facekp.experiments.run import run_trial
    from facekp.models.regression import build_baseline
    from facekp.models.transfer import build_transfer
    from facekp.training.distributed import fit_shards
    from facekp.training.loop import fit
    from facekp.training.seeds import set_seeds
    from facekp.training.shards import write_shards
    from facekp.training.transfer import fit_transfer

    experiment = plan_experiment(faces, load_settings("quick", desk), [Trial("mean", "masked", 0, 0)])
    shards = write_shards([faces[:16]], desk / "shards", 8)
    model = {"fit": lambda: build_baseline(4), "fit_transfer": lambda: build_transfer("mobilenetv2", trainable=False)}.get(way, lambda: None)
    options = {"images_shown": 16, "batch_size": 8, "seed": 3, "show_progress": False}
    train_once = {"fit": lambda net: fit(net, faces[:16], faces[16:], **options).model.get_weights(),
                  "fit_transfer": lambda net: fit_transfer(net, faces[:16], faces[16:], features_folder=desk / "features", **options).model.get_weights(),
                  "fit_shards": lambda _: fit_shards(lambda: build_baseline(4), shards, batch_size=8, seed=3)[0].get_weights(),
                  "run_trial": lambda _: [np.array(run_trial(experiment.trials[0], experiment).squared_errors)]}[way]
    drawn, weights = [], []
    for training in (False, True, True):
        set_seeds(7)
        net = model()
        set_seeds(8)
        drawn.append(random_draws())
        if training:
            weights.append(train_once(net))
        drawn[-1] += random_draws()
    assert drawn[0] == drawn[1] == drawn[2]
    assert all(np.array_equal(one, other) for one, other in zip(*weights))


def test_plots_restore_the_settings_of_matplotlib(faces):
    "kind: 15 | what: plots of faces in a program of the user | gets: rcParams, the backend and OpenCV's number of threads as before"
    import matplotlib
    import matplotlib.pyplot as plt

    from facekp.plots import show_faces

    before = dict(matplotlib.rcParams), matplotlib.get_backend(), cv2.getNumThreads()
    plt.close(show_faces(faces.images[:4], faces.points[:4]))
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), cv2.getNumThreads()) == before


def test_a_phone_video_that_is_rotated_by_metadata_is_upright(desk):
    "kind: 5 | what: phone videos with a rotation of 90, 180 or 270 degrees in their metadata | gets: upright frames"
    import struct

    for angle, turn, (a, b, c, d) in ((90, cv2.ROTATE_90_COUNTERCLOCKWISE, (0, 1, -1, 0)), (180, cv2.ROTATE_180, (-1, 0, 0, -1)), (270, cv2.ROTATE_90_CLOCKWISE, (0, -1, 1, 0))):
        upright = np.zeros((48, 80, 3), np.uint8)
        upright[:24, :40] = 255
        stored = cv2.rotate(upright, turn)
        height, width = stored.shape[:2]
        video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
        for _ in range(3):
            video.write(stored)
        video.release()
        content = bytearray(Path("v.mp4").read_bytes())
        place = content.index(b"tkhd") + 4
        place += 4 + (32 if content[place] else 20) + 16
        shift = {90: (height, 0), 180: (width, height), 270: (0, width)}[angle]
        content[place:place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, shift[0] << 16, shift[1] << 16, 1 << 30)
        Path("v.mp4").write_bytes(content)
        frame = next(read_frames("v.mp4")).image
        assert frame.shape == upright.shape and np.abs(frame.astype(int) - upright).mean() < 12, angle


def test_hidden_folders_among_points_are_skipped(desk):
    "kind: 6, 13 | what: .ipynb_checkpoints, __MACOSX and ._face.pts in a folder of .pts files | gets: the photos only"
    from facekp.data.w300 import _find_pts_files

    for name in (".ipynb_checkpoints/face-checkpoint.pts", "__MACOSX/face.pts", "._face.pts", "face.pts"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert [path.name for path in _find_pts_files(Path("."))] == ["face.pts"]


def test_load_npz_names_a_pointer(desk):
    "A Git LFS pointer read from Python raises the same error as on the command line."
    Path("x.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="git lfs pull"):
        load_npz("x.npz")
