"""Trainings and comparisons killed at any moment (SIGKILL) and started again end as if nothing had happened."""

import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="SIGKILL and fork are a POSIX matter")
FACES, EPOCHS = 150, 91


@functools.cache
def server():
    "Processes that are born with TensorFlow loaded, since each would need seconds for that."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facekp.train", "facekp.compare", "facekp.kaggle"])
    first = context.Process(target=quiet)  # waits until all is loaded, so that the moments after it are those of the training
    first.start()
    first.join(300)
    return context


def small_net():
    "A net with all that has a state: weights, moving means, random numbers for dropout."
    import keras

    return keras.Sequential([
        keras.Input((96, 96, 1)), keras.layers.Rescaling(1 / 255), keras.layers.AveragePooling2D(4), keras.layers.Flatten(), keras.layers.Dense(64, "relu"),
        keras.layers.BatchNormalization(), keras.layers.Dropout(0.2), keras.layers.Dense(30), keras.layers.Rescaling(20, 48),
        keras.layers.Reshape((15, 2))], name="small")


def die_at(moment: tuple[str, int] | None) -> None:
    "Have this process killed just before the given call of a function: ('fsync', 2) is the second time a file is put to disk."
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
    "Let nothing of a process that will be killed reach the test's own output, and take one core."
    os.setsid()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def train_small(folder: str, faces_path: str, seed: int = 3, moment: tuple | None = None, threads: int = 1) -> None:
    "What is killed: a training with its state, its model and its record."
    quiet()
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    from facekp.core import set_seeds
    from facekp.data import load_npz
    from facekp.train import describe_data, fit, make_record, save_model, write_record

    die_at(moment)
    faces = load_npz(faces_path)
    train, validation = faces[:FACES], faces[FACES:]
    set_seeds(seed)
    training = fit(small_net(), train, validation, images_shown=EPOCHS * FACES, batch_size=32, seed=seed, patience=100, run_folder=folder, resume=True,
                   show_progress=False)
    save_model(training.model, Path(folder) / "model.keras")
    description = {"model": "small", "labels": "masked", "augment": 0, "profile": "quick", "seed": seed, "budget": {},
                   "data": describe_data(train, validation, validation)}
    write_record(make_record(training, validation, description), Path(folder) / "record.json")


def run_until_done(target, arguments: tuple, moments: list, delays: list[float]) -> dict:
    "Start a process again and again and kill each: the next at the next moment or delay, the last not at all."
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
    "The weights and the record of a finished run, but for what the clock says."
    from facekp.train import load_model, read_record

    record = dataclasses.asdict(read_record(Path(folder) / "record.json"))
    return load_model(folder).get_weights(), {name: part for name, part in record.items() if name != "seconds"}


def faces_file(folder: Path) -> str:
    "Some drawn faces with gaps."
    from facekp.data import save_npz
    from facekp.draw import draw_faces
    from facekp.synthetic import impose_gaps

    faces = draw_faces(FACES + 40, seed=5, workers=1)
    from facekp.core import concatenate

    return str(save_npz(concatenate([impose_gaps(faces[:FACES], 0.5), impose_gaps(faces[FACES:], 0.01)]), folder / "faces.npz"))


MOMENTS = [("savez", 1), ("fsync", 1), ("replace", 1), ("savez", 2), ("replace", 2), ("write", 1), ("replace", 1)]


def kill_and_compare(folder: Path, random_kills: int, moments: list, seed: int = 0) -> dict:
    "Train undisturbed and with kills; say how many there were and how far apart the weights are."
    faces = faces_file(folder)
    undisturbed = run_until_done(train_small, (str(folder / "whole"), faces, 3), [], [])
    longest = 0.6 * undisturbed["seconds"]
    delays = np.random.default_rng(seed).uniform(0, longest, random_kills).round(3).tolist()
    disturbed = run_until_done(train_small, (str(folder / "killed"), faces, 3), moments, delays)
    (weights, record), (weights_after, record_after) = outcome(folder / "whole"), outcome(folder / "killed")
    difference = max(float(np.abs(a - b).max()) for a, b in zip(weights, weights_after))
    return {"kills": disturbed["kills"], "starts": disturbed["starts"], "largest_difference_of_weights": difference, "same_record": record == record_after,
            "seconds_undisturbed": undisturbed["seconds"], "seconds_with_kills": disturbed["seconds"]}


def test_a_training_killed_while_it_saves_ends_as_if_nothing_had_happened(tmp_path):
    told = kill_and_compare(tmp_path, 0, MOMENTS[:4:3] + [("replace", 2)])
    assert told["kills"] == 3 and told["largest_difference_of_weights"] == 0 and told["same_record"], told


@pytest.mark.long
def test_a_training_killed_at_thirty_moments_ends_as_if_nothing_had_happened(tmp_path):
    told = {"kills": 0}
    for turn in range(6):  # a run that has ended can't be killed any more, so there are several runs
        folder = tmp_path / str(turn)
        folder.mkdir()
        once = kill_and_compare(folder, 8, MOMENTS if turn == 0 else [], seed=turn)
        assert once["largest_difference_of_weights"] == 0 and once["same_record"], once
        told["kills"] += once["kills"]
        if told["kills"] >= 30:
            break
    assert told["kills"] >= 25, told


# a comparison of several cells

def compare_small(folder: str, faces_path: str, moment: tuple | None = None) -> None:
    "What is killed: a grid of five cells."
    quiet()
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    from facekp.compare import run_course
    from facekp.core import Settings
    from facekp.data import load_npz

    die_at(moment)
    settings = Settings(models="mean baseline", labels="complete masked", augment=1, baseline_images=1500, runs_folder=f"{folder}/runs",
                        results_folder=f"{folder}/results")
    run_course(load_npz(faces_path), settings, workers=1)


def records_of(folder: Path) -> dict[str, dict]:
    "The records of a comparison, but for what the clock says."
    return {path.name: {name: part for name, part in json.loads(path.read_text()).items() if name != "seconds"}
            for path in folder.glob("results/quick/*/[!.]*-seed0.json")}


def kill_a_course(folder: Path, kills: int, seed: int = 1) -> dict:
    "Run a comparison undisturbed and with kills."
    from facekp.data import save_npz
    from facekp.draw import draw_faces

    faces = str(save_npz(draw_faces(150, seed=6, workers=1), folder / "faces.npz"))
    whole = run_until_done(compare_small, (str(folder / "whole"), faces), [], [])
    delays = np.random.default_rng(seed).uniform(0.2, 0.7 * whole["seconds"], kills).round(3).tolist()
    told = run_until_done(compare_small, (str(folder / "killed"), faces), [("replace", 7)] if kills else [("replace", 5)], delays)
    records, after = records_of(folder / "whole"), records_of(folder / "killed")
    return {"cells": len(records), "kills": told["kills"], "same_records": records == after and len(records) == 6}


@pytest.mark.long
def test_a_comparison_killed_again_and_again_has_every_cell_once(tmp_path):
    told = kill_a_course(tmp_path, 6)
    assert told["same_records"] and told["kills"] >= 3, told


# the same again

def train_with_threads(folder: Path, faces: str, threads: int) -> tuple[list[np.ndarray], dict]:
    "Train in a process of its own with so many threads."
    process = server().Process(target=train_small, args=(str(folder), faces, 3, None, threads))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return outcome(folder)


def same_again(folder: Path, threads: tuple[int, ...] = (1, 1, 2, 2, 4)) -> dict:
    "Train the same again with these numbers of threads; how far apart weights and scores are from those with one."
    faces = faces_file(folder)
    runs = [train_with_threads(folder / f"run{index}", faces, count) for index, count in enumerate(threads)]
    told = {}
    for count, (weights, record) in zip(threads[1:], runs[1:]):
        difference = max(float(np.abs(a - b).max()) for a, b in zip(runs[0][0], weights))
        points = float(np.abs(np.sqrt(runs[0][1]["squared_errors"]) - np.sqrt(record["squared_errors"])).max())
        told[str(count)] = {"largest_difference_of_weights": difference, "largest_difference_of_a_face_px": points,
                            "difference_of_rmse_px": abs(runs[0][1]["metrics"]["rmse"] - record["metrics"]["rmse"])}
    twice = [index for index, count in enumerate(threads) if count == 2]
    if len(twice) == 2:
        told["2 against 2"] = {"largest_difference_of_weights": max(float(np.abs(a - b).max()) for a, b in zip(runs[twice[0]][0], runs[twice[1]][0]))}
    return told


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers_and_other_threads_nearly(tmp_path):
    told = same_again(tmp_path)
    assert told["1"]["largest_difference_of_weights"] == 0 and told["2 against 2"]["largest_difference_of_weights"] == 0, told
    for count in ("2", "4"):
        assert told[count]["largest_difference_of_a_face_px"] < 0.1 and told[count]["difference_of_rmse_px"] < 0.02, told
