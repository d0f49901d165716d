"Cases that users of similar tools report: names, paths, pipes, patterns, NumPy integers, file permissions."

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from facekp.cli import main
from facekp.data.npz import save_npz
from facekp.errors import UserError
from facekp.files import atomic_path, check_folder
from facekp.inference.landmarker import load
from facekp.inference.outputs import predict_files
from facekp.inference.sources import find_sources
from facekp.jobs import train
from facekp.synthetic.renderer import synthetic_faces


@pytest.mark.parametrize("format", ["image", "json", "csv"])
def test_a_name_without_room_for_an_extension_loses_only_its_own_result(format, desk, capsys):
    "kind: 8 | what: a file name of 255 bytes, which leaves no room for the extension of its result | gets: the results of the other files, and a one-line error with the path"
    os.mkdir("in")
    for name in ("x" * 251 + ".png", "b.png", "ž" * 120 + ".png"):
        Path("in", name).write_bytes(Path("a.png").read_bytes())
    status = main(["predict", "in", "--format", format, "--out", "out"])
    said = capsys.readouterr().err
    assert len(os.listdir("out")) == (1 if format == "csv" else 2) and status == (0 if format == "csv" else 2)
    assert format == "csv" or "the name of the file would be too long, 2" in said and "the rest is done" in said


def test_long_names_that_fit_are_written(desk):
    "kind: 8 | what: the name of a result just fits | gets: the file"
    path = desk / ("y" * 250 + ".csv")
    with atomic_path(path) as partial:
        partial.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are a POSIX matter")
def test_a_pipe_among_the_images_does_not_stop_the_command(desk, capsys):
    "kind: 13 | what: a pipe and a folder named p.jpg among the images, or /dev/stdin or - as a source | gets: the images, and a one-line error for the pipe"
    os.mkdir("in")
    Path("in/a.png").write_bytes(Path("a.png").read_bytes())
    os.mkfifo("in/p.jpg")
    os.mkdir("in/folder.jpg")
    assert [Path(source.path).name for source in find_sources(["in"])] == ["a.png"]
    for source in ("in/p.jpg", "-"):
        assert main(["predict", source]) == 2 and "a pipe or device; expected a file" in capsys.readouterr().err


def test_names_that_differ_in_case_have_separate_results_on_every_disk(desk):
    "kind: 9 | what: A.png, a.png and a.PNG in one folder, with results on a disk that ignores case | gets: three results"
    names = [source.name for source in find_sources(["a.png"])]
    for name in ("A.png", "a.PNG"):
        Path(name).write_bytes(Path("a.png").read_bytes())
    names = [source.name.lower() for source in find_sources(["A.png", "a.png", "a.PNG"])]
    assert sorted(names) == ["a", "a-2", "a-3"]


def test_an_impossible_output_folder_is_refused_before_any_work(desk, capsys):
    "kind: 9 | what: --out is a file, or a folder below a file, in predict and train | gets: a one-line error before any work"
    Path("file").write_text("mine")
    save_npz(synthetic_faces(60, seed=1, workers=1), "faces.npz")
    for out in ("file", "file/below"):
        for words in (["predict", "a.png", "--out", out], ["train", "--model", "mean", "--data", "faces.npz", "--out", out]):
            assert main(words) == 2, words
            said = capsys.readouterr().err
            assert "a file; expected a folder" in said and said.count("\n") == 1, said
    assert Path("file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="needs a second user")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    "kind: 9 | what: a folder that belongs to another user | gets: a one-line error before any work"
    if os.geteuid():
        pytest.skip("only root can give a folder away and act as another user")
    folder = tmp_path / "of root"
    folder.mkdir(mode=0o700)
    program = "import os, sys; from facekp.files import check_folder; os.setuid(65534); check_folder(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, str(folder / "new")], capture_output=True, text=True)
    assert "UserError" in done.stderr and "no permission to write there" in done.stderr and str(folder) in done.stderr


def test_patterns_are_expanded_and_web_addresses_are_refused(desk, capsys):
    "kind: 10 | what: a pattern that the shell did not expand, or a web address | gets: the matching files; a one-line error that suggests downloading the file"
    Path("b.png").write_bytes(Path("a.png").read_bytes())
    assert [source.path for source in find_sources(["*.png"])] == ["a.png", "b.png"]
    for source, answer in (("https://example.org/a.jpg", "https://example.org/a.jpg: a web address; download"), ("*.jpg", "no file matches this pattern"), ("none.jpg", "no such file or folder")):
        assert main(["predict", source]) == 2 and answer in capsys.readouterr().err


def test_a_file_whose_name_begins_with_a_dash(desk, capsys):
    "kind: 8 | what: predict -photo.png | gets: a one-line error that suggests ./-photo.png, which works"
    Path("-photo.png").write_bytes(Path("a.png").read_bytes())
    with pytest.raises(SystemExit):
        main(["predict", "-photo.png"])
    assert "write ./-photo.png for a file of that name" in capsys.readouterr().err
    assert main(["predict", "./-photo.png", "--format", "json"]) == 0 and main(["predict", "--format", "json", "--", "-photo.png"]) == 0


def test_numpy_integers_are_accepted(desk):
    "kind: 11 | what: NumPy integers as seed and number of copies | gets: the same run, and a record that is valid JSON"
    faces = synthetic_faces(60, seed=1, workers=1)
    plain = train("mean", "plain", faces, augment=1, seed=2)
    assert train("mean", "numpy", faces, augment=np.int64(1), seed=np.int64(2)).metrics["rmse"] == plain.metrics["rmse"]


def test_a_closed_standard_output_is_named(desk, monkeypatch):
    "kind: 17 | what: results are printed, and standard output is closed | gets: a one-line error; with --out the work is completed"
    monkeypatch.setattr(sys, "stdout", None)
    for format in ("json", "csv"):
        with pytest.raises(UserError, match="standard output is closed"):
            predict_files(load(threads=1), ["a.png"], None, format)
        assert predict_files(load(threads=1), ["a.png"], "out", format, overwrite=True) == []


def test_the_umask_is_never_changed(desk, monkeypatch):
    "kind: 15 | what: another thread creates a file while a result is written | gets: its file has the permissions that the user set"
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    set_masks, umask = [], os.umask
    old = umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: set_masks.append(mask) or umask(mask))
        threads = [threading.Thread(target=lambda n=n: _write(desk / f"{n}.txt")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not set_masks and {path.stat().st_mode & 0o777 for path in desk.glob("*.txt")} == {0o640}
    finally:
        umask(old)


def _write(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_text("x")


def test_check_folder_accepts_folders_that_can_be_created(desk):
    "kind: 9 | what: a folder that exists, does not exist yet, or is several levels deep | gets: no error"
    for folder in (".", "new", "new/deep/er", desk):
        check_folder(folder)


def test_names_in_capitals_are_suggested(capsys):
    "kind: 30 | what: --labels KNN, --model Mean, --format PNG | gets: an error that suggests the right name"
    for words, meant in ((["train", "--labels", "KNN"], "knn"), (["train", "--model", "RESNET50"], "resnet50"), (["predict", "a.png", "--format", "PNG"], "png")):
        with pytest.raises(SystemExit):
            main(words)
        assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_a_stopped_run_and_a_folder_without_runs_are_not_compared(desk, capsys):
    "kind: 1 | what: compare with an interrupted run or an empty folder | gets: a one-line error that states what a finished run contains"
    os.mkdir("stopped")
    Path("stopped/run.json").write_text("{}")
    assert main(["compare", "stopped"]) == 2
    said = capsys.readouterr().err
    assert "stopped: not the results of a study or of a finished run; expected record.json" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["net.h5", "net.pt", "face.xml", "a.png"])
def test_models_of_other_kinds_are_refused_with_the_expected_kinds(name, desk, capsys):
    "kind: 22 | what: a model file of another library | gets: a one-line error with the kinds of models that are read"
    Path(name).write_bytes(b"no model")
    assert main(["predict", "a.png", "--format", "json", "--model", name]) == 2
    said = capsys.readouterr().err
    assert "expected default, an .onnx, .tflite or .keras file, or the folder of a run" in said and said.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is a POSIX matter")
def test_a_command_ended_by_a_batch_system_keeps_finished_work(desk):
    "kind: 7 | what: SIGTERM, which batch systems send at the time limit, during predict | gets: a table of the finished images, and their number"
    words = [sys.executable, "-m", "facekp", "predict", *["a.png"] * 3000, "--format", "csv", "--out", "out"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(5):
        process.stdout.readline()
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "of 3000 sources are done" in error, error
    assert os.listdir("out") == ["predictions.csv"] and len(Path("out/predictions.csv").read_text().splitlines()) >= 6
