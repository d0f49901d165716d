"The command in a separate process: exit status, one-line errors, start-up."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import run_command

from facekp.cli import main
from facekp.data.npz import load_npz
from facekp.jobs import compare
from facekp.keypoints import MEAN_FACE

ROOT = Path(__file__).resolve().parents[2]


def facekp(*arguments, cwd=None):
    "Run the command in a separate process."
    return subprocess.run([sys.executable, "-c", "import sys; from facekp.cli import main; sys.exit(main())", *map(str, arguments)],
                          capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("arguments, words", [
    (["data", "info", "missing.csv"], "missing.csv"),
    (["data", "info", "empty.csv"], "empty"),
    (["data", "info", "synthetic:0"], "synthetic:0"),
    (["data", "make", "synthetic:5"], "no destination"),
    (["course", "--profile", "fast"], "argument --profile: 'fast' is unknown"),
    (["train", "--model", "unet", "--data", "synthetic:300", "--out", "run"], "argument --model: 'unet' is unknown"),
    (["train", "--model", "cnn", "--labels", "mean", "--data", "synthetic:300", "--out", "run"], "argument --labels: 'mean' is unknown"),
    (["train", "--model", "cnn", "--augment", "-1", "--data", "synthetic:300", "--out", "run"], "expected 0 or more copies"),
    (["evaluate", "--model", "nowhere", "--data", "synthetic:300"], "no such model"),
    (["compare", "nowhere"], "nowhere: no such file or folder"),
])
def test_wrong_input_is_one_line_and_exit_2(tmp_path, arguments, words):
    (tmp_path / "empty.csv").write_text("")
    answer = facekp(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1 and answer.stderr.startswith("facekp: ")
    assert not (tmp_path / "run").exists()


def test_settings_with_a_mistake_are_named(tmp_path):
    (tmp_path / "settings.ini").write_text("[quick]\nsedds = 3\n")
    answer = facekp("course", cwd=tmp_path)
    assert answer.returncode == 2 and "did you mean 'seeds'?" in answer.stderr


def test_a_reader_that_stops_early_is_no_error():
    code = "import sys; from facekp.cli import main; sys.exit(main())"
    command = subprocess.Popen([sys.executable, "-c", code, "data", "info", "synthetic:60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command.stdout.close()
    assert "Error" not in command.stderr.read() and command.wait() == 0


def test_unknown_job_is_refused():
    assert facekp("curse").returncode == 2


def processor_seconds(code: str) -> float:
    "Return the least processor time, user and system, of seven processes that run some code: waiting for other programs does not count."
    resource = pytest.importorskip("resource", reason="the processor time of another process is measured on Unix only")

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    times = []
    for _ in range(7):
        before = used()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(used() - before)
    return min(times)


HELP = "from facekp.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"


def test_help_takes_less_than_a_tenth_of_a_second():
    assert processor_seconds(HELP) - processor_seconds("pass") < 0.1


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["course", "--help"]], ids=" ".join)
def test_help_imports_no_large_package(arguments):
    code = HELP.replace("['--help']", str(arguments)) + "import sys; print('loaded:', *({'tensorflow', 'numpy', 'pandas', 'matplotlib', 'cv2', 'json', 'difflib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert answer.startswith("usage: facekp") and answer.splitlines()[-1].split() == ["loaded:"]


def test_make_info_train_evaluate_compare(tmp_path):
    made = run_command("data", "make", "synthetic:240", "--out", "faces.npz", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert run_command("data", "make", "synthetic:240", "--blocks", "--out", "blocks.npz", cwd=tmp_path).returncode == 0
    assert not np.array_equal(load_npz(tmp_path / "blocks.npz").truth, load_npz(tmp_path / "faces.npz").truth)
    assert "240 rows" in run_command("data", "info", "faces.npz", cwd=tmp_path).stdout
    for labels in ("complete", "masked"):
        trained = run_command("train", "--model", "mean", "--labels", labels, "--data", "faces.npz", "--out", labels, cwd=tmp_path)
        assert trained.returncode == 0, trained.stderr
    scores = json.loads(run_command("evaluate", "--model", "masked", "--data", "faces.npz", "--json", cwd=tmp_path).stdout)
    assert {"rmse", "mse", "mae", "accuracy", "nme_eye_centers", "nme_outer_eye_corners", "pck", "auc", "failure_rate", "n_faces", "n_points", "per_point", "model", "data"} <= set(scores)
    assert scores["n_faces"] == 240 and 1 < scores["rmse"] < 8
    table = run_command("compare", "complete", "masked", cwd=tmp_path)
    assert table.returncode == 0 and table.stdout.count("mean") == 2, table.stderr


@pytest.mark.parametrize("folder", sorted(path.parent for path in (ROOT / "results").rglob("runs.csv")), ids=lambda path: path.name)
def test_every_published_study_can_be_compared(folder, capsys, monkeypatch):
    table = compare([folder])
    assert len(table) == len((folder / "runs.csv").read_text().splitlines()) - 1 and table.rmse.is_monotonic_increasing
    known = table.low.notna()
    assert ((table.low < table.rmse) & (table.rmse < table.high))[known].all()
    monkeypatch.setattr("facekp.jobs.compare", lambda runs: table)  # its bootstrap takes a while
    assert main(["compare", str(folder)]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(table) and "nan" not in "".join(rows).lower()
    assert [" - " in row for row in rows] == (table.accuracy.isna() | ~known).tolist()


@pytest.mark.parametrize("model", [pytest.param("baseline", marks=pytest.mark.long), pytest.param("cnn", marks=pytest.mark.long), "heatmap"])
def test_a_trained_network_is_loaded_by_a_process_that_never_built_one(tmp_path, model):
    trained = run_command("train", "--model", model, "--data", "synthetic:240", "--images", 64, "--out", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    scored = run_command("evaluate", "--model", "run", "--data", "synthetic:240", "--json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["n_faces"] == 240


def test_the_shipped_model_is_scored_by_its_name_and_as_a_file(tmp_path):
    from facekp.data.npz import save_npz
    from facekp.inference.keypoint_model import load_keypoint_model
    from facekp.inference.session import DEFAULT_MODEL
    from facekp.synthetic.renderer import synthetic_faces

    faces = synthetic_faces(40, seed=3, workers=1)
    save_npz(faces, tmp_path / "faces.npz")
    shutil.copy(DEFAULT_MODEL, tmp_path / "copy.onnx")
    rmse = np.sqrt(np.mean((load_keypoint_model().predict(faces.images)[0] - faces.points) ** 2))
    for model in ("default", "copy.onnx"):
        scored = run_command("evaluate", "--model", model, "--data", "faces.npz", "--json", cwd=tmp_path)
        assert scored.returncode == 0, scored.stderr
        assert json.loads(scored.stdout)["rmse"] == pytest.approx(rmse, abs=1e-4)


def test_runs_on_different_faces_are_not_compared(tmp_path):
    for seed in (0, 1):
        run_command("train", "--model", "mean", "--data", "synthetic:240", "--seed", seed, "--out", f"run{seed}", cwd=tmp_path)
    answer = run_command("compare", "run0", "run1", cwd=tmp_path)
    assert answer.returncode == 2 and "tested on different faces" in answer.stderr


@pytest.mark.slow
def test_a_stopped_course_resumes(tmp_path):
    (tmp_path / "settings.ini").write_text("[quick]\nmodels = mean baseline\nlabels = complete masked\naugment = 1\nbaseline_images = 500\n")
    first = run_command("course", "--data", "synthetic:400", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    records = sorted((tmp_path / "runs").glob("*/*-seed0.json"))
    assert len(records) == 2 + 4
    results = next((tmp_path / "results" / "quick").glob("*/runs.csv"))
    before = results.read_text()
    results.unlink()
    kept = {record: record.stat().st_mtime_ns for record in records[1:]}
    records[0].unlink()
    again = run_command("course", "--data", "synthetic:400", "--workers", 1, cwd=tmp_path)
    assert again.returncode == 0 and records[0].exists()
    assert kept == {record: record.stat().st_mtime_ns for record in kept}
    assert [line.split(",")[0] for line in results.read_text().splitlines()] == [line.split(",")[0] for line in before.splitlines()]


def test_check_names_every_broken_row(tmp_path):
    from facekp.keypoints import COLUMNS

    good = ",".join(["40.5"] * 30) + "," + " ".join(["7"] * 9216)
    rows = [good, good.replace("7 7 7", "7 7 x", 1), good, ",".join(["40.5"] * 30) + ",1 2 3"]
    (tmp_path / "training.csv").write_text(",".join(COLUMNS) + ",Image\n" + "\n".join(rows) + "\n")
    answer = facekp("data", "check", "training.csv", cwd=tmp_path)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    assert "row 1" in answer.stdout and "row 3" in answer.stdout and "row 2" not in answer.stdout


def test_training_on_an_npz_file_of_the_user(tmp_path):
    rng = np.random.default_rng(0)
    points = (MEAN_FACE + rng.normal(0, 2, (40, 15, 2))).astype(np.float32)
    np.savez(tmp_path / "own.npz", images=rng.integers(0, 255, (40, 96, 96), dtype=np.uint8), points=points,
             group=np.arange(40).astype(str), source=np.full(40, "own"), image_id=np.arange(40).astype(str))
    answer = facekp("train", "--model", "mean", "--data", "own.npz", "--out", "run", cwd=tmp_path)
    assert answer.returncode == 0 and "8 held-out faces of own.npz" in answer.stdout, answer.stdout + answer.stderr
