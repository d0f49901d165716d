"""Training runs and comparisons that are killed at any moment (SIGKILL) and restarted give the same result as without interruption."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from command import server

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="SIGKILL and fork need POSIX")
FACES, EPOCHS = 150, 91


def small_net():
    "Return a network with every kind of state: weights, moving means, random numbers for dropout."
    import keras

    return keras.Sequential([
        keras.Input((96, 96, 1)), keras.layers.Rescaling(1 / 255), keras.layers.AveragePooling2D(4), keras.layers.Flatten(), keras.layers.Dense(64, "relu"),
        keras.layers.BatchNormalization(), keras.layers.Dropout(0.2), keras.layers.Dense(30), keras.layers.Rescaling(20, 48),
        keras.layers.Reshape((15, 2))], name="small")


def die_at(moment: tuple[str, int] | None) -> None:
    "Kill this process just before the given call of a function: ('fsync', 2) is the second time that a file is written to disk."
    if not moment:
        return
    name, number = moment
    owner = {"savez": np, "fsync": os, "replace": os, "write": Path}[name]
    name = {"write": "write_text"}.get(name, name)
    left, original = [number], getattr(owner, name)

    def counted(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            if name == "savez":  # in the middle of the file
                Path(arguments[0]).write_bytes(b"PK\x03\x04 half")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, counted)


def quiet() -> None:
    "Silence a process that will be killed, and limit it to one core."
    os.setsid()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def train_small(folder: str, faces_path: str, seed: int = 3, moment: tuple | None = None, threads: int = 1, net: str = "small") -> None:
    "Run the training that is killed, with state, model and record. The simple CNN is large enough for threads to share each step."
    quiet()
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    from facekp.data.npz import load_npz
    from facekp.experiments.record import describe_data, make_record, write_record
    from facekp.models.cnn import build_cnn
    from facekp.models.files import save_model
    from facekp.training.loop import fit
    from facekp.training.seeds import set_seeds

    die_at(moment)
    faces = load_npz(faces_path)
    train, validation = faces[:FACES], faces[FACES:]
    set_seeds(seed)
    build, epochs = {"small": (small_net, EPOCHS), "cnn": (build_cnn, 12)}[net]
    training = fit(build(), train, validation, images_shown=epochs * FACES, batch_size=32, seed=seed, patience=100, run_folder=folder, resume=True,
                   show_progress=False)
    save_model(training.model, Path(folder) / "model.keras")
    description = {"model": net, "labels": "masked", "augment": 0, "profile": "quick", "seed": seed, "budget": {},
                   "data": describe_data(train, validation, validation)}
    write_record(make_record(training, validation, description), Path(folder) / "record.json")


def run_until_done(target, arguments: tuple, moments: list, delays: list[float]) -> dict:
    "Start a process repeatedly and kill it at the next moment or delay each time; the last one runs to its end."
    kills, started = 0, time.perf_counter()
    for moment, delay in [*((moment, None) for moment in moments), *((None, delay) for delay in delays), (None, None)]:
        process = server().Process(target=target, args=(*arguments, moment))
        process.start()
        process.join(delay if delay is not None else 300)
        if process.is_alive():
            assert delay is not None, "it hangs"
            os.kill(process.pid, signal.SIGKILL)
            process.join(60)
        kills += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL), f"ended with {process.exitcode} after {moment or delay}"
    assert process.exitcode == 0
    return {"kills": kills, "starts": len(moments) + len(delays) + 1, "seconds": round(time.perf_counter() - started, 1)}


def outcome(folder) -> tuple[list[np.ndarray], dict]:
    "Return the weights and the record of a finished run, without times."
    from facekp.experiments.record import read_record
    from facekp.models.files import load_model

    record = dataclasses.asdict(read_record(Path(folder) / "record.json"))
    return load_model(folder).get_weights(), {name: part for name, part in record.items() if name != "seconds"}


def faces_file(folder: Path) -> str:
    "Write a file of synthetic faces with gaps and return its path."
    from facekp.data.npz import save_npz
    from facekp.synthetic.gaps import impose_gaps
    from facekp.synthetic.renderer import synthetic_faces

    faces = synthetic_faces(FACES + 40, seed=5, workers=1)
    from facekp.faces import concatenate

    return str(save_npz(concatenate([impose_gaps(faces[:FACES], 0.5), impose_gaps(faces[FACES:], 0.01)]), folder / "faces.npz"))


MOMENTS = [("savez", 1), ("fsync", 1), ("replace", 1), ("savez", 2), ("replace", 2), ("write", 1), ("replace", 1)]


def kill_and_compare(folder: Path, random_kills: int, moments: list, seed: int = 0) -> dict:
    "Train without interruption and with kills; return the number of kills and the largest difference of the weights."
    faces = faces_file(folder)
    undisturbed = run_until_done(train_small, (str(folder / "whole"), faces, 3), [], [])
    longest = 0.6 * undisturbed["seconds"]
    delays = np.random.default_rng(seed).uniform(0, longest, random_kills).round(3).tolist()
    disturbed = run_until_done(train_small, (str(folder / "killed"), faces, 3), moments, delays)
    (weights, record), (weights_after, record_after) = outcome(folder / "whole"), outcome(folder / "killed")
    difference = max(float(np.abs(a - b).max()) for a, b in zip(weights, weights_after))
    return {"kills": disturbed["kills"], "starts": disturbed["starts"], "largest_difference_of_weights": difference, "same_record": record == record_after,
            "seconds_undisturbed": undisturbed["seconds"], "seconds_with_kills": disturbed["seconds"]}


@pytest.mark.slow
def test_a_training_killed_while_it_saves_ends_as_if_nothing_had_happened(tmp_path):
    told = kill_and_compare(tmp_path, 0, MOMENTS[:4:3] + [("replace", 2)])
    assert told["kills"] == 3 and told["largest_difference_of_weights"] == 0 and told["same_record"], told


@pytest.mark.long
def test_a_training_killed_at_thirty_moments_ends_as_if_nothing_had_happened(tmp_path):
    told = {"kills": 0}
    for turn in range(6):  # a run that has ended cannot be killed, so there are several runs
        folder = tmp_path / str(turn)
        folder.mkdir()
        once = kill_and_compare(folder, 8, MOMENTS if turn == 0 else [], seed=turn)
        assert once["largest_difference_of_weights"] == 0 and once["same_record"], once
        told["kills"] += once["kills"]
        if told["kills"] >= 30:
            break
    assert told["kills"] >= 25, told


# a comparison of several trials

def compare_small(folder: str, faces_path: str, moment: tuple | None = None) -> None:
    "Run the comparison that is killed, with five trials."
    quiet()
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    from facekp.config import Settings
    from facekp.data.npz import load_npz
    from facekp.experiments.run import run_course

    die_at(moment)
    settings = Settings(models="mean baseline", labels="complete masked", augment=1, baseline_images=1500, runs_folder=f"{folder}/runs",
                        results_folder=f"{folder}/results")
    run_course(load_npz(faces_path), settings, workers=1)


def records_of(folder: Path) -> dict[str, dict]:
    "Return the records of a comparison, without times."
    from facekp.experiments.results import read_study

    found = {path.name: {name: part for name, part in json.loads(path.read_text()).items() if name != "seconds"}
             for path in folder.glob("runs/*/[!.]*-seed0.json")}
    for path in folder.glob("results/quick/*/runs.csv"):
        study = read_study(path.parent)
        found["study"] = study.runs.drop(columns="seconds").to_dict(), study.squared_errors.tolist(), study.groups.tolist()
    return found


def kill_a_course(folder: Path, kills: int, seed: int = 1) -> dict:
    "Run a comparison without interruption, then with at least this many kills; a comparison that has ended cannot be killed, so another one follows."
    from facekp.data.npz import save_npz
    from facekp.synthetic.renderer import synthetic_faces

    faces, rng = str(save_npz(synthetic_faces(150, seed=6, workers=1), folder / "faces.npz")), np.random.default_rng(seed)
    whole = run_until_done(compare_small, (str(folder / "whole"), faces), [], [])
    records, told = records_of(folder / "whole"), {"cells": 0, "comparisons": 0, "kills": 0, "same_records": True}
    while told["kills"] < kills and told["comparisons"] < 2 * kills:
        place = folder / f"killed{told['comparisons']}"
        delays = rng.uniform(0.1, 0.5 * whole["seconds"], 4).round(3).tolist()
        told["kills"] += run_until_done(compare_small, (str(place), faces), [("replace", 5 + 2 * (told["comparisons"] % 4))], delays)["kills"]
        told["comparisons"] += 1
        told["same_records"] &= records_of(place) == records
    return told | {"cells": len(records) - 1}


@pytest.mark.long
def test_a_comparison_killed_again_and_again_has_every_cell_once(tmp_path):
    told = kill_a_course(tmp_path, 6)
    assert told["same_records"] and told["cells"] == 6 and told["kills"] >= 6, told


# repeated runs

BOUND_POINT_PX = 0.5  # px, largest difference of a point after the same training with another number of threads
BOUND_FACE_PX = 0.1  # px, of the error of a face
BOUND_RMSE_PX = 0.02  # px, of the error over all faces


def train_with_threads(folder: Path, faces: str, threads: int, net: str) -> tuple[list[np.ndarray], dict, np.ndarray]:
    "Train in a separate process with this number of threads; return weights, record and predicted points."
    process = server().Process(target=train_small, args=(str(folder), faces, 3, None, threads, net))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    from facekp.data.npz import load_npz
    from facekp.models.files import load_model

    weights, record = outcome(folder)
    return weights, record, np.asarray(load_model(folder)(load_npz(faces).images[..., None].astype(np.float32)))


def same_again(folder: Path, threads: tuple[int, ...] = (1, 1, 2, 2, 4), nets: tuple[str, ...] = ("small", "cnn")) -> dict:
    "Repeat a training run with these numbers of threads; return the differences of weights, predictions and scores from those with one thread."
    faces, told = faces_file(folder), []
    for net in nets:
        runs = [train_with_threads(folder / f"{net}{index}", faces, count, net) for index, count in enumerate(threads)]
        first_of = {count: threads.index(count) for count in threads}
        for index, count in enumerate(threads[1:], start=1):
            against = first_of[count] if first_of[count] < index else 0  # with the same number of threads twice, or else with one
            (weights, record, points), (weights_after, record_after, points_after) = runs[against], runs[index]
            rmse, face = ([np.asarray(part) for part in pair] for pair in zip(*((run["metrics"]["rmse"], np.sqrt(run["squared_errors"])) for run in (record, record_after))))
            told.append({"net": net, "threads": f"{threads[against]} and {count}",
                         "largest_difference_of_weights": max(float(np.abs(a - b).max()) for a, b in zip(weights, weights_after)),
                         "largest_difference_of_a_point_px": float(np.abs(points - points_after).max()),
                         "largest_difference_of_a_face_px": float(np.abs(face[0] - face[1]).max()), "difference_of_rmse_px": float(abs(rmse[0] - rmse[1]))})
    return {"rows": told, "bound_of_a_point_px": BOUND_POINT_PX, "bound_of_a_face_px": BOUND_FACE_PX, "bound_of_rmse_px": BOUND_RMSE_PX}


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers_and_other_threads_nearly(tmp_path):
    told = same_again(tmp_path)
    for row in told["rows"]:
        first, second = row["threads"].split(" and ")
        if first == second:
            assert row["largest_difference_of_weights"] == row["largest_difference_of_a_point_px"] == 0, row
        assert row["largest_difference_of_a_point_px"] < BOUND_POINT_PX and row["largest_difference_of_a_face_px"] < BOUND_FACE_PX, row
        assert row["difference_of_rmse_px"] < BOUND_RMSE_PX, row
