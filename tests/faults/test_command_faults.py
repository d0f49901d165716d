"Faults of the command and of jobs: interruptions, existing files, standard error, options without effect."

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekp import cli
from facekp.data.npz import save_npz
from facekp.errors import UserError
from facekp.inference.keypoint_model import SourceModels, load_keypoint_model
from facekp.inference.landmarker import load
from facekp.inference.outputs import predict_files
from facekp.progress import progress
from facekp.synthetic.renderer import synthetic_faces


def write_video(path: Path, frames: int = 6) -> None:
    "Write frames of one face."
    face = cv2.resize(synthetic_faces(3, seed=3, workers=1).images[0], (120, 120))
    image = np.repeat(cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE)[..., None], 3, axis=2)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (240, 240))
    for _ in range(frames):
        video.write(image)
    video.release()


# Ctrl-C in a folder of videos

@pytest.mark.parametrize("format, expected", [("png", ["a-points.mp4"]), ("json", ["a.json"]), ("csv", ["predictions.csv"])])
def test_ctrl_c_in_a_video_leaves_no_truncated_file_and_ends_the_command(format, expected, tmp_path, monkeypatch):
    "kind: 7 | what: Ctrl-C during the second of three videos | gets: the first video's result, no truncated file, no further video, and the number of finished sources"
    for name in "abc":
        write_video(tmp_path / f"{name}.avi")
    calls, original = [0], __import__("facekp.inference.tracking", fromlist=["FaceTracker"]).FaceTracker.next

    def stop_in_the_second_video(self, *arguments):
        calls[0] += 1
        if calls[0] == 9:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr("facekp.inference.tracking.FaceTracker.next", stop_in_the_second_video)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 sources are done"):
        predict_files(load(threads=1), [tmp_path], tmp_path / "out", format, show_progress=False)
    assert calls[0] == 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == expected
    if format == "csv":
        rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
        assert {Path(row["file"]).name for row in rows} == {"a.avi"} and len(rows) == 6


# arrays of another shape

@pytest.mark.parametrize("array", [np.zeros((2, 100, 96), np.uint8), np.zeros((96, 96), np.uint8), np.zeros((2, 96, 96, 1), np.uint8),
                                   np.zeros((2, 96, 96, 3), np.uint8), np.zeros((640, 480, 3), np.uint8), "photo.jpg", None])
def test_a_keypoint_model_names_the_expected_shape(array):
    "kind: 28 | what: a keypoint model is given a colour image, a crop of another size, a file name or nothing | gets: a one-line error with the expected shape"
    for model in (load_keypoint_model(), SourceModels(load_keypoint_model())):
        with pytest.raises(UserError, match=r"expected grey values 0-255 of crops \[N,96,96\]"):
            model.predict(array)


# standard error is shared by the whole process

def run_python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **options)


def test_messages_of_other_threads_survive_the_import_of_tensorflow():
    "kind: 29 | what: other threads write to standard error while TensorFlow is imported | gets: every line of the other threads, and none of TensorFlow's"
    code = """
import os, sys, threading, time
stop = threading.Event()
def talk():
    number = 0
    while not stop.is_set():
        os.write(2, f"thread {number}\\n".encode()); print(f"python {number}", file=sys.stderr, flush=True)
        number += 1; time.sleep(0.01)
    print(number)
thread = threading.Thread(target=talk); thread.start()
import facekp.training.backend
stop.set(); thread.join()
"""
    done = run_python(code)
    count = int(done.stdout)
    assert done.returncode == 0 and count > 20
    lines = done.stderr.splitlines()
    for who in ("thread", "python"):  # the last line inside and the first one outside the filter may be swapped
        assert sorted(line for line in lines if line.startswith(who)) == sorted(f"{who} {number}" for number in range(count))
    assert len(lines) == 2 * count, [line for line in lines if not line.startswith(("thread", "python"))][:3]


@contextlib.contextmanager
def standard_error():
    "Yield a file that receives standard error of the whole process, including output that bypasses Python. This is no fixture, because pytest replaces the stream after the set-up of a test."
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def whole_text(file) -> bytes:
    file.seek(0)
    return file.read()


def test_many_threads_may_filter_at_once_and_standard_error_is_restored():
    "kind: 29 | what: six threads filter standard error at the same time | gets: every line once, and the original stream afterwards"
    from facekp.training.backend import filter_stderr

    def use(number: int) -> None:
        for turn in range(20):
            with filter_stderr():
                os.write(2, f"{number} {turn}\n".encode())
                time.sleep(0.001)

    with standard_error() as file:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(2, b"after\n")
        assert os.path.sameopenfile(2, file.fileno())
        assert sorted(whole_text(file).decode().splitlines()) == sorted([f"{number} {turn}" for number in range(6) for turn in range(20)] + ["after"])


def test_a_slow_reader_loses_no_line(monkeypatch):
    "kind: 29 | what: on a busy machine, lines of standard error are forwarded seconds later | gets: every line before the filter ends"
    from facekp.training import backend

    write = backend._write_all

    def write_slowly(target: int, content: bytes) -> None:
        if content:
            time.sleep(1.5)  # longer than the filter waits for child processes
        write(target, content)

    with standard_error() as file:
        with monkeypatch.context() as patch, backend.filter_stderr():
            patch.setattr(backend, "_write_all", lambda target, content: (write if content.startswith(b"\0") else write_slowly)(target, content))
            for number in range(3):
                os.write(2, f"I0000 00:00:17.5 log line\nline {number}\n".encode())
            os.write(2, b"without an end")
        assert whole_text(file) == b"line 0\nline 1\nline 2\nwithout an end"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
def test_a_child_process_that_keeps_standard_error_open_does_not_block_the_program():
    "kind: 29 | what: a child process that was started while TensorFlow was imported keeps running | gets: the program does not wait for it, and the lines of both appear"
    from facekp.training.backend import filter_stderr

    with standard_error() as file:
        started = time.monotonic()
        with filter_stderr():
            child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.stderr.write('child\\n')"], stdin=subprocess.PIPE)
            os.write(2, b"parent\n")
        assert time.monotonic() - started < 30
        child.communicate(b"")
        for _ in range(200):
            if b"child" in whole_text(file):
                break
            time.sleep(0.05)
        assert whole_text(file) == b"parent\nchild\n"


def test_the_command_works_with_standard_error_closed():
    "kind: 29 | what: standard error is closed | gets: the same work as otherwise"
    code = "import os; os.close(2); import facekp.training.backend; print(facekp.training.backend.GPU_COUNT)"
    done = run_python(code)
    assert done.returncode == 0 and done.stdout.strip().isdigit(), done.stdout


def test_converters_are_silent_and_messages_of_other_threads_appear(caplog):
    "kind: 15, 29 | what: another thread logs messages while a model is converted | gets: its messages, none from the converter, and the previous warning filters"
    import logging

    from facekp.export.tools import silence_converters

    before = list(warnings.filters)

    def other() -> None:
        logging.getLogger("mine").warning("from another thread")

    with silence_converters():
        logging.getLogger("tf2onnx.tfonnx").warning("from a converter")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        print("printed meanwhile")
    assert caplog.messages == ["from another thread"]
    logging.getLogger("mine").warning("afterwards")
    assert caplog.messages[-1] == "afterwards" and warnings.filters == before


# progress bars and FFmpeg

class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream, drawn", [(io.StringIO(), False), (Terminal(), True), (None, False)])
def test_progress_bars_appear_on_terminals_only(stream, drawn, monkeypatch):
    "kind: 17 | what: standard error is a file, a terminal or missing | gets: a progress bar on the terminal only"
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress(range(3), "working")
    bar.delay = 0
    assert list(bar) == [0, 1, 2]
    assert bool(stream and stream.getvalue()) is drawn


def test_a_closed_stream_shows_no_progress_bar(monkeypatch):
    "kind: 17 | what: the program has closed standard error | gets: no progress bar and no error"
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), "working")) == [0, 1, 2]


def test_ffmpeg_messages_about_a_damaged_video_are_not_shown(tmp_path):
    "kind: 17 | what: one video is damaged, another is truncated | gets: the frames that can be read, a one-line error for the other video, and no messages from FFmpeg"
    write_video(tmp_path / "damaged.avi", 30)
    content = bytearray((tmp_path / "damaged.avi").read_bytes())
    for place in np.random.default_rng(0).integers(len(content) // 4, len(content) * 3 // 4, 400):
        content[place] ^= 0x55
    (tmp_path / "damaged.avi").write_bytes(content)
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    code = """
import os, sys
from facekp.errors import UserError
from facekp.video import read_frames
for path in sys.argv[1:]:
    try: print(sum(1 for _ in read_frames(path)))
    except UserError as error: print("refused")
assert "OPENCV_FFMPEG_LOGLEVEL" not in os.environ
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "damaged.avi", tmp_path / "cut.mp4"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.split()[1] == "refused", done.stderr[:300]


# options without effect

def test_export_refuses_options_that_it_would_ignore(tmp_path):
    "kind: 30 | what: a precision of weights, calibration data or notes that the export format cannot use | gets: a one-line error that names the option"
    from facekp.export.formats import export_network
    from facekp.models.cnn import build_cnn

    model = build_cnn()
    for format, path, options, words in (("litert", "a.tflite", {"weights": "int8"}, "only ONNX files store"), ("saved_model", "a", {"weights": "float16"}, "only ONNX"),
                                         ("litert", "a.tflite", {"notes": {"name": "mine"}}, "only ONNX files keep"),
                                         ("onnx", "a.onnx", {"calibration": (1.0, 1.0)}, "networks with heatmaps"), ("onnx", "a.onnx", {"weights": "int4"}, "unknown")):
        with pytest.raises(UserError, match=words):
            export_network(model, tmp_path / path, format, **options)
    assert not list(tmp_path.iterdir())


# Ctrl-C: finished work is on disk, and the message is correct

COMMAND = "import sys; from facekp.cli import main; sys.exit(main())"


def interrupt_when(words: list, ready, cwd: Path, group: bool = False) -> tuple[int, str]:
    "Run the command, send SIGINT when `ready` returns True, and return exit status and standard error."
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *map(str, words)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    started = time.monotonic()
    while not ready() and process.poll() is None and time.monotonic() - started < 240:
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    return process.returncode, error


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is a POSIX matter")
def test_an_interrupted_training_run_keeps_its_last_checkpoint_and_names_it(tmp_path):
    "kind: 7 | what: Ctrl-C during train | gets: the number of the epoch that was kept; the same command continues with --resume"
    from facekp.training.state import read_progress

    save_npz(synthetic_faces(120, seed=2, workers=1), tmp_path / "faces.npz")
    words = ["train", "--model", "baseline", "--data", "faces.npz", "--images", 4_000_000, "--out", "run"]
    status, error = interrupt_when(words, (tmp_path / "run" / "state.npz").exists, tmp_path)
    progress = read_progress(tmp_path / "run" / "state.npz")
    assert status == 130 and error.count("\n") == 1, error
    assert f"stopped; epoch {progress['epoch']} of {progress['settings']['epochs']} is kept in run; the same command with --resume continues" in error
    assert not (tmp_path / "run" / "record.json").exists()
    status, error = interrupt_when([*words, "--resume"], lambda: read_progress(tmp_path / "run" / "state.npz")["epoch"] > progress["epoch"], tmp_path)
    assert status == 130 and read_progress(tmp_path / "run" / "state.npz")["epoch"] > progress["epoch"]


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is a POSIX matter")
def test_an_interrupted_course_reports_how_many_trials_are_kept(tmp_path):
    "kind: 7 | what: Ctrl-C during course | gets: the number of trials on disk; the same command continues"
    save_npz(synthetic_faces(120, seed=2, workers=1), tmp_path / "faces.npz")
    (tmp_path / "settings.ini").write_text("[quick]\nmodels = mean baseline\nlabels = masked\naugment = 1\nbaseline_images = 3000000\nminutes_per_trial = 9999\n")
    status, error = interrupt_when(["course", "--data", "faces.npz", "--workers", 1], lambda: list((tmp_path / "runs").glob("*/mean*.json")), tmp_path, group=True)
    kept = len(list((tmp_path / "runs").glob("*/*-seed0.json")))
    assert status == 130 and f"stopped; {kept} of 3 trials are done and kept in" in error and kept >= 1, error


def test_a_ctrl_c_that_python_drops_in_a_callback_is_raised_again(monkeypatch, capsys):
    class Loaded:
        "An object whose weak reference has a callback, like TensorFlow's functions."

    def job(options):
        loaded = Loaded()
        reference = weakref.ref(loaded, lambda _: signal.raise_signal(signal.SIGINT) or time.sleep(0.01))
        del loaded  # Python reports the callback's KeyboardInterrupt as ignored
        started = time.monotonic()
        while reference() is None and time.monotonic() - started < 20:
            time.sleep(0.01)

    hook = sys.unraisablehook
    monkeypatch.setitem(cli.JOBS, "data", (*cli.JOBS["data"][:2], job))
    assert cli.main(["data", "info"]) == 130 and "facekp: stopped" in capsys.readouterr().err
    assert sys.unraisablehook is hook


def test_an_interrupted_submission_is_not_written_and_the_message_says_so(tmp_path, monkeypatch, capsys):
    "kind: 7 | what: Ctrl-C during submit | gets: no file, and a one-line message"
    from facekp.cli import main
    from facekp.synthetic.kaggle_files import write_kaggle_folder

    write_kaggle_folder(tmp_path / "kaggle", 30, 1)
    monkeypatch.chdir(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr("facekp.jobs._source_models", lambda model: SourceModels(_Stopping()))
        assert main(["submit", "--data", "./kaggle"]) == 130
    assert "stopped; submission.csv was not written" in capsys.readouterr().err and not Path("submission.csv").exists()


class _Stopping:
    name = "stopping"

    def predict(self, images, batch_size=256):
        raise KeyboardInterrupt


# the user's files

def test_existing_files_are_replaced_on_request_only(tmp_path, monkeypatch, capsys):
    "kind: 9 | what: data make, submit or export is told to write to an existing file | gets: a one-line error, and the old file; --overwrite replaces it"
    from facekp.cli import main
    from facekp.synthetic.kaggle_files import write_kaggle_folder

    monkeypatch.chdir(tmp_path)
    write_kaggle_folder(tmp_path / "data", 30, 1)
    (tmp_path / "mine").mkdir()
    places = {"faces.npz": ["data", "make", "synthetic:20", "--out", "faces.npz"], "mine/truth.csv": ["data", "make", "synthetic:20", "--out", "mine"],
              "submission.csv": ["submit", "--data", "data"], "net.onnx": ["export", "--out", "net.onnx"]}
    for name, words in places.items():
        Path(name).write_text("precious")
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert f"{name}: exists already" in error and "--overwrite" in error and error.count("\n") == 1
        assert Path(name).read_text() == "precious"
        assert main([*words, "--overwrite"]) == 0 and Path(name).read_bytes() != b"precious", words
        capsys.readouterr()
    assert main(["data", "info", "faces.npz", "--out", "x"]) == 2 and "have no effect" in capsys.readouterr().err
