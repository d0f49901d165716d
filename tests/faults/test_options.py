"Every option of every job: if it would have no effect, it is refused in one line. A new option needs a decision."

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekp.cli import build_parser, main
from facekp.data.npz import save_npz
from facekp.errors import UserError
from facekp.experiments.plan import list_trials
from facekp.inference.landmarker import load
from facekp.inference.outputs import predict_files
from facekp.inference.tracked_video import track
from facekp.jobs import settings_with
from facekp.options import jobs_of
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.synthetic.renderer import synthetic_faces
from facekp.video import read_frames

# job -> option -> cases in which it would have no effect: words of the command, words of the error. No case: it always has an effect
REFUSED = {
    "predict": {"--model": [], "--out": [], "--format": [], "--min-face-size": [], "--threads": [], "--providers": [], "--max-pixels": [],
                "--no-smoothing": [(["predict", source, "--no-smoothing"], "--no-smoothing (smoothing) is for videos and webcams") for source in ("a.png", "photos")],
                "--frames": [(["predict", "a.png", "--frames", "2"], "--frames 2 (max_frames) ends videos"), (["predict", "photos", "--frames", "1", "--format", "json"], "none of the sources is one")],
                "--overwrite": [(["predict", "a.png", "--format", kind, "--overwrite"], "these results are printed") for kind in ("json", "jsonl", "csv", "coco")]},
    "data": {"--format": [(["data", action, source, "--format", "coco"], "for data export only") for action, source in (("info", "faces.npz"), ("check", "faces.npz"), ("make", "synthetic"), ("fetch", "kaggle"))],
             "--out": [(["data", action, "faces.npz", "--out", "x.npz"], f"data {action} writes no file") for action in ("info", "check")] + [(["data", "fetch", "--out", "x"], "writes no file")],
             "--overwrite": [(["data", action, "faces.npz", "--overwrite"], f"data {action} writes no file") for action in ("info", "check")]
             + [(["data", "export", "faces.npz", "--out", "x", "--overwrite"], "data export replaces no annotations")],
             "--seed": [(["data", action, source, "--seed", "3"], f"--seed 3 chooses synthetic faces, and {source} has none")
                        for action in ("info", "check", "export") for source in ("faces.npz", "kaggle", "./kaggle", "faces.npz + other.npz")]
             + [(["data", "fetch", "--seed", "3"], "kaggle has none"), (["data", "info", "--seed", "3"], "faces.npz has none")],  # the data of settings.ini
             "--blocks": [(["data", action, source, "--blocks"], f"data {action}: --blocks is for data make only") for action, source in (("info", "faces.npz"), ("check", "synthetic"), ("export", "synthetic"), ("fetch", "kaggle"))]},
    "train": {"--model": [], "--data": [], "--labels": [], "--augment": [], "--seed": [], "--profile": [], "--out": [], "--resume": [], "--overwrite": [],
              "--images": [(["train", "--model", "mean", "--data", "faces.npz", "--images", "300", "--out", "run"], "leave the budget (--images) out")],
              "--sources": [(["train", "--model", "mean", "--data", "faces.npz", "--sources", "2", "--out", "run"], "has one annotation source")]},
    "evaluate": {"--model": [], "--data": [], "--json": []},
    "submit": {"--model": [], "--data": [(["submit", "--data", "synthetic:30"], "has no test set in files")], "--out": [], "--overwrite": []},
    "compare": {}, "completion": {},
    "course": {"--data": [], "--profile": [], "--models": [], "--seeds": [], "--workers": [(["course", "--models", "mean", "--workers", "2"], "FACEKP_CLUSTER decides")]},
    "export": {"--model": [(["export", "--model", "net.onnx", "--out", "m.onnx"], "is exported already")], "--format": [], "--out": [], "--overwrite": [],
               "--weights": [(["export", "--format", kind, "--out", out, "--weights", "int8"], "only ONNX files") for kind, out in (("litert", "m.tflite"), ("litert-int8", "m.tflite"), ("saved_model", "m"))],
               "--data": [(["export", "--format", kind, "--out", out, "--data", "faces.npz"], "calibrate the int8 formats only")
                          for kind, out in (("onnx", "m.onnx"), ("litert", "m.tflite"), ("saved_model", "m"))]},
}
CASES = [(job, option, *case) for job, options in REFUSED.items() for option, cases in options.items() for case in cases]


def picture() -> np.ndarray:
    "Return a synthetic face with replicated borders."
    face = cv2.resize(synthetic_faces(3, seed=3, workers=1).images[0], (120, 120))
    return np.repeat(cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    "Return a folder with one source of each kind."
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    for name in ("a.png", "photos/b.png"):
        cv2.imwrite(str(folder / name), picture())
    for name, seed in (("faces.npz", 1), ("other.npz", 2)):
        save_npz(synthetic_faces(60, seed=seed, workers=1), folder / name)
    write_kaggle_folder(folder / "kaggle", 30, 1)
    (folder / "settings.ini").write_text("[course]\ndata = faces.npz\n")
    video = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (240, 240))
    for _ in range(6):
        video.write(picture())
    video.release()
    return folder


@pytest.fixture
def desk(made, tmp_path, monkeypatch) -> Path:
    "Return a working folder with a copy of these sources."
    shutil.copytree(made, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.delenv("FACEKP_DATA", raising=False)
    return tmp_path / "desk"


def read_points(path: Path) -> np.ndarray:
    "Return the points [N,15,2] of the first face of each frame."
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return np.array([list(line["faces"][0]["points"].values()) for line in lines])


def test_every_option_of_every_job_has_a_decision():
    for job, parser in jobs_of(build_parser()).items():
        options = {action.option_strings[-1] for action in parser._actions if action.option_strings} - {"--help", "--debug"}
        assert options == set(REFUSED[job]), f"{job}: a new option: with which inputs and formats would it have no effect?"


@pytest.mark.parametrize("job, option, words, answer", CASES, ids=[f"{option} {' '.join(words)}" for _, option, words, _ in CASES])
def test_an_option_that_would_have_no_effect_is_refused(job, option, words, answer, desk, monkeypatch, capsys):
    "kind: 30 | what: --frames for images, --seed for real data, --images for the mean face, --workers on a cluster, and similar options | gets: a one-line error that names the option and suggests leaving it out"
    if option == "--workers":
        monkeypatch.setenv("FACEKP_CLUSTER", "tcp://127.0.0.1:9")
    before = sorted(desk.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert answer in said and said.count("\n") == 1, said
    assert [path for path in sorted(desk.rglob("*")) if path not in before and "cache" not in str(path)] == []


def test_no_smoothing_writes_the_keypoints_as_the_model_predicts_them(desk):
    "kind: 30 | what: --no-smoothing for a video of a moving face | gets: the points of facekp.track(smoothing=False), which differ from the smoothed ones"
    video = cv2.VideoWriter("moving.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (240, 240))
    for shift in range(0, 12, 2):
        video.write(np.roll(picture(), shift, axis=1))
    video.release()
    for name, more in (("smooth", []), ("raw", ["--no-smoothing"])):
        assert main(["predict", "moving.avi", "--format", "jsonl", "--out", name, *more]) == 0
    smooth, raw = (read_points(Path(name) / "predictions.jsonl") for name in ("smooth", "raw"))
    alone = [frame.faces[0].points for frame in track("moving.avi", smoothing=False)]
    np.testing.assert_allclose(raw, alone, atol=0.01)
    assert not np.allclose(smooth, raw, atol=0.01)


def test_an_unavailable_provider_is_named(desk, capsys):
    "kind: 30 | what: --providers with a misspelt name, or with one that this ONNX Runtime lacks | gets: a one-line error with the name and the available providers"
    for name in ("coda", "cpu,coda"):
        assert main(["predict", "a.png", "--providers", name]) == 2
        said = capsys.readouterr().err
        assert "coda is not available" in said and "cpu" in said.split("expected")[1] and said.count("\n") == 1
    assert main(["predict", "a.png", "--providers", "auto", "--out", "out"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no line feed in a name")
def test_a_line_feed_in_a_name_leaves_one_line_per_result(desk, capsys):
    "kind: 8 | what: image names that contain line feeds, tabs or escape sequences | gets: one line each, with the character escaped, on both streams"
    shutil.copy("a.png", "a\nb.png")
    shutil.copy("a.png", "c\x1b[2Jd.png")
    Path("e\tf.png").write_bytes(b"nothing")
    assert main(["predict", "a\nb.png", "c\x1b[2Jd.png", "e\tf.png", "--out", "out"]) == 2
    said = capsys.readouterr()
    assert "a\\nb.png: 1 face" in said.out and "c\\x1b[2Jd.png: 1 face" in said.out and said.out.count("\n") == 2
    assert "e\\tf.png" in said.err and "\t" not in said.err and "\x1b" not in said.out


def test_the_same_options_work_where_they_have_an_effect(desk, capsys):
    "kind: 30 | what: the same options where they have an effect | gets: --frames ends a video among images, --seed renders other faces"
    assert main(["predict", "a.png", "v.avi", "--frames", "2", "--out", "out"]) == 0
    assert len(list(read_frames("out/v-points.mp4"))) == 2 and Path("out/a-points.png").exists()
    said = []
    for seed in ("3", "3", "4"):
        capsys.readouterr()
        assert main(["data", "info", "faces.npz + synthetic:30", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_functions_refuse_what_the_command_refuses(desk):
    "kind: 30 | what: max_frames for images, or overwrite for printed results, in Python | gets: UserError with the name of the argument"
    landmarker = load(threads=1)
    with pytest.raises(UserError, match="max_frames"):
        predict_files(landmarker, ["a.png"], "out", max_frames=3)
    with pytest.raises(UserError, match="overwrite=True"):
        predict_files(landmarker, ["a.png"], None, "json", overwrite=True)
    assert not Path("out").exists()


@pytest.mark.parametrize("format, source", [("image", "a.png"), ("jpg", "a.png"), ("png", "a.png"), ("image", "v.avi"), ("json", "a.png"), ("jsonl", "a.png"), ("csv", "a.png"), ("coco", "a.png"), ("labelme", "a.png")])
def test_overwrite_decides_in_every_format(format, source, desk, capsys):
    "kind: 9, 30 | what: a file of the user has the name of a result, which may be a drawn image or video | gets: a one-line error, and the old file; --overwrite replaces it. Results of facekp are replaced without it, except LabelMe files, which people correct"
    words = ["predict", source, "--format", format, "--out", "out"]
    assert main(words) == 0
    result = next(path for path in Path("out").iterdir())
    assert main(words) == (2 if format == "labelme" else 0), "people correct LabelMe's files"
    capsys.readouterr()
    old = Path("v.avi").read_bytes() if source == "v.avi" else Path("a.png").read_bytes()
    result.write_bytes(old)
    answer = "may have been corrected in LabelMe" if format == "labelme" else "no result of facekp"
    assert main(words) == 2 and answer in capsys.readouterr().err and result.read_bytes() == old
    assert main([*words, "--overwrite"]) == 0 and result.read_bytes() != old


def test_debug_may_come_before_or_after_the_job(desk):
    "kind: 30 | what: --debug after the job instead of before it | gets: the traceback in both cases"
    for words in (["--debug", "predict", "none.jpg"], ["predict", "none.jpg", "--debug"]):
        with pytest.raises(UserError, match="none.jpg"):
            main(words)
    assert main(["predict", "none.jpg"]) == 2


@pytest.mark.parametrize("text", ["mean cnn", "mean,cnn", "mean, cnn", '"mean cnn"', " mean ,\tcnn, ", "mean cnn mean"])
def test_names_are_separated_by_spaces_or_commas(text, desk):
    "kind: 30 | what: --models mean,cnn, or models = mean, cnn in settings.ini | gets: the same as with spaces"
    Path("settings.ini").write_text(f"[quick]\nmodels = {text}\nlabels = masked\n")
    for settings in (settings_with("quick"), settings_with("quick", models=text)):
        assert list(dict.fromkeys(trial.model for trial in list_trials(settings))) == ["mean", "cnn"]


def test_unknown_names_of_a_comparison_are_refused_before_any_work(desk, capsys):
    "kind: 30 | what: course with an unknown model or with none | gets: a one-line error before the data are read"
    for models, answer in (("mean unet", "model 'unet' is unknown"), (",", "no model is named")):
        assert main(["course", "--models", models, "--data", "none.npz"]) == 2
        said = capsys.readouterr()
        assert answer in said.err and said.err.count("\n") == 1 and not said.out


def test_a_run_given_twice_is_compared_once(desk, capsys):
    "kind: 30 | what: compare with the same run given twice | gets: one row"
    assert main(["train", "--model", "mean", "--data", "faces.npz", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["compare", "run", "./run", str(desk / "run")]) == 0
    assert capsys.readouterr().out.count("mean") == 1


def test_json_of_every_result_has_no_nan(desk, capsys):
    "kind: 21 | what: programs that read JSON but do not accept NaN | gets: JSON that a strict parser accepts"
    def strict(text: str) -> None:
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    cv2.imwrite("none.png", np.zeros((40, 60, 3), np.uint8))
    for format in ("json", "jsonl", "coco"):
        assert main(["predict", "a.png", "none.png", "--format", format]) == 0
    assert main(["evaluate", "--data", "faces.npz", "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        strict(line)
