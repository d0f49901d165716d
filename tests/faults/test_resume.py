"Only the same experiment resumes a run: every option, setting and argument is changed one at a time, and is allowed or refused by name."

import argparse
import inspect
import json
import shutil
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from facekp.cli import build_parser, main
from facekp.config import Settings, load_settings
from facekp.data.npz import save_npz
from facekp.errors import UserError
from facekp.experiments.record import read_record
from facekp.jobs import train
from facekp.options import jobs_of
from facekp.synthetic.dataset import synthetic_training_set
from facekp.synthetic.renderer import synthetic_faces

BASE = {"--model": "baseline", "--data": "two.npz", "--labels": "masked", "--augment": "1", "--images": "300", "--seed": "0", "--profile": "quick", "--sources": "2"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    "Return a folder with faces and a finished run."
    folder = tmp_path_factory.mktemp("desk")
    faces = synthetic_training_set(240, seed=5)
    save_npz(faces, folder / "two.npz")
    save_npz(faces, folder / "copy.npz")
    save_npz(synthetic_training_set(240, seed=6), folder / "other.npz")
    (folder / "settings.ini").write_text("[course]\nseed = 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *[word for pair in BASE.items() for word in pair], "--out", "run"]) == 0
    return folder


@pytest.fixture
def copied(desk, tmp_path, monkeypatch):
    "Return a copy of the finished run, to be resumed."
    for path in desk.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    return tmp_path


def train_options() -> dict[str, argparse.Action]:
    "Return all options of facekp train."
    return {action.option_strings[-1]: action for action in jobs_of(build_parser())["train"]._actions if action.dest != "help"}


# option -> (other value, whether it is refused, words of the message). None: an output or resume option, which has its own test
DECISIONS = {
    "--model": ("cnn", True, "model baseline before, cnn now"), "--data": ("other.npz", True, "data "), "--labels": ("knn", True, "labels masked before, knn now"),
    "--augment": ("2", True, "augment 1 before, 2 now"), "--images": ("600", False, ""), "--seed": ("1", True, "seed 0 before, 1 now"),
    "--profile": ("full", True, "profile quick before, full now"), "--sources": ("1", True, "sources 2 before, 1 now"),
    "--out": None, "--resume": None, "--overwrite": None, "--debug": None}


def everything_in(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_option_of_train_has_a_decision():
    assert set(train_options()) == set(DECISIONS), "a new option: may a run be resumed with another value of it?"


@pytest.mark.parametrize("option", [option for option, decision in DECISIONS.items() if decision])
def test_each_option_changed_alone_is_refused_by_name_or_recorded(option, copied, capsys):
    "kind: 1 | what: --resume with another model, data set, label strategy, augmentation, budget, seed, profile or number of sources | gets: a one-line error that names the option; only a larger budget is allowed and recorded"
    value, refused, words = DECISIONS[option]
    before = everything_in(copied / "run")
    status = main(["train", *[word for pair in (BASE | {option: value}).items() for word in pair], "--out", "run", "--resume"])
    error = capsys.readouterr().err
    if refused:
        assert status == 2 and words in error and error.count("\n") == 1, error
        assert everything_in(copied / "run") == before
        return
    assert status == 0, error
    record = read_record(copied / "run" / "record.json")
    assert record.budget["images"] == 600 and [part["images"] for part in record.resumed] == [300, 600]
    assert record.images_shown > 300 and record.augment == 1


def test_resuming_a_finished_run_changes_only_the_time(copied):
    "kind: 1 | what: --resume on a finished run | gets: the same record"
    old = read_record(copied / "run" / "record.json")
    assert main(["train", *[word for pair in BASE.items() for word in pair], "--out", "run", "--resume"]) == 0
    new = read_record(copied / "run" / "record.json")
    assert replace(new, seconds=0) == replace(old, seconds=0) and new.seconds > old.seconds / 2 and new.resumed == []


def test_the_same_faces_under_another_name_are_the_same_experiment_and_are_recorded(copied):
    "kind: 1 | what: --resume with a copy of the data under another name | gets: the run continues, and the record contains both file names"
    assert main(["train", *[word for pair in (BASE | {"--data": "copy.npz"}).items() for word in pair], "--out", "run", "--resume"]) == 0
    assert [part["data"] for part in read_record(copied / "run" / "record.json").resumed] == ["two.npz", "copy.npz"]


def test_a_smaller_budget_and_several_differences_are_named(copied, capsys):
    "kind: 1 | what: --resume with several differences | gets: a one-line error with all of them"
    assert main(["train", *[word for pair in (BASE | {"--images": "200", "--seed": "1", "--labels": "knn"}).items() for word in pair], "--out", "run", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "images 300 before, 200 now (it may only grow)" in error and "seed 0 before, 1 now" in error and "labels masked before, knn now" in error


def test_a_run_is_neither_overwritten_nor_resumed_without_an_option(copied, capsys):
    "kind: 1, 9 | what: train into a folder that contains a run | gets: a one-line error, and the old run; --resume or --overwrite decides"
    words = ["train", *[word for pair in BASE.items() for word in pair], "--out", "run"]
    before = everything_in(copied / "run")
    assert main(words) == 2 and "holds a run; continue it with --resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--overwrite"]) == 2 and "exclude each other" in capsys.readouterr().err
    assert main([*words[:-1], "two.npz"]) == 2 and "expected a folder" in capsys.readouterr().err
    assert everything_in(copied / "run") == before
    (copied / "run" / "notes.txt").write_text("mine")
    assert main([*words, "--overwrite", "--seed", "1"]) == 0
    assert read_record(copied / "run" / "record.json").seed == 1 and (copied / "run" / "notes.txt").read_text() == "mine"
    (copied / "run" / "run.json").unlink()
    assert main([*words, "--resume"]) == 2 and "settings are not known" in capsys.readouterr().err


def test_two_heads_without_two_sources_are_refused(tmp_path):
    "kind: 30 | what: --sources 2 for faces from one annotation source | gets: a one-line error with the reason"
    with pytest.raises(UserError, match="one annotation source"):
        train("mean", tmp_path / "run", synthetic_faces(60, seed=1, workers=1), heads=2)
    assert train("mean", tmp_path / "run", synthetic_faces(60, seed=1, workers=1), heads=1).metrics["rmse"] > 0


# settings.ini: field -> (other value, refused by train --resume, run again by course)
SETTINGS = {
    "profile": ("full", True, False), "data": ("other.npz", True, True), "seed": (3, True, True), "test_share": (0.3, True, True), "gap_share": (0.5, True, True),
    "batch_size": (16, True, True), "baseline_images": (200, True, True), "weights": ("none", False, False),
    "cnn_images": (500, False, False), "transfer_images": (500, False, False), "synthetic_faces": (300, False, False), "models": ("mean", False, False),
    "labels": ("masked", False, False), "augment": (1, False, False), "seeds": (1, False, False), "minutes_per_trial": (9, False, False),
    "data_folder": ("d", False, False), "runs_folder": ("same", False, False), "results_folder": ("same", False, False), "photos_folder": ("p", False, False)}


def test_every_setting_has_a_decision():
    assert {field.name for field in fields(Settings)} == set(SETTINGS), "a new setting: may a run be resumed with another value of it?"


@pytest.mark.parametrize("name", [name for name, (value, *_) in SETTINGS.items() if value != "same"])
def test_each_setting_changed_alone_is_refused_by_name_or_does_not_affect_the_run(name, copied, capsys):
    "kind: 1 | what: --resume after a change of settings.ini | gets: a one-line error that names the key, if the key affects the run"
    value, refused, _ = SETTINGS[name]
    section = "course" if name in ("profile", "data", "seed", "test_share", "gap_share") else "paths" if name.endswith("folder") or name == "weights" else "quick"
    words = ["train", "--model", "baseline", "--augment", "1", "--out", "run", "--resume"]
    text = {"course": f"[course]\n{name} = {value}\n" + "".join(f"{key} = {kept}\n" for key, kept in (("profile", "quick"), ("data", "two.npz")) if key != name),
            "paths": f"[course]\nprofile = quick\ndata = two.npz\n[paths]\n{name} = {value}\n", "quick": f"[course]\nprofile = quick\ndata = two.npz\n[quick]\n{name} = {value}\n"}[section]
    if name != "baseline_images":
        text = text.replace("[quick]\n", "[quick]\nbaseline_images = 300\n") if "[quick]" in text else f"{text}[quick]\nbaseline_images = 300\n"
    if name == "profile":
        text += f"[full]\nbaseline_images = 300\nbatch_size = {load_settings('quick').batch_size}\n"
    (copied / "settings.ini").write_text(text)
    status = main(words)
    error = capsys.readouterr().err
    assert status == (2 if refused else 0), error
    if refused:
        assert f"{'images' if name == 'baseline_images' else name} " in error.split("another run: ")[1]


def test_course_does_not_reuse_results_of_other_settings(tmp_path, monkeypatch):
    "kind: 1 | what: course after a change of settings.ini or of the data | gets: trials with other settings are run again"
    from facekp.experiments.plan import Trial, plan_experiment
    from facekp.experiments.record import write_record
    from facekp.experiments.run import _is_done, run_trial

    faces = {name: synthetic_faces(90, seed=seed, workers=1) for name, seed in (("two.npz", 1), ("other.npz", 2))}
    settings = replace(load_settings("quick", tmp_path), data="two.npz", runs_folder=str(tmp_path / "runs"), results_folder=str(tmp_path / "results"), baseline_images=90)
    experiment = plan_experiment(faces["two.npz"], settings, [Trial("baseline", "masked", 0, settings.seed)])
    planned = experiment.trials[0]
    write_record(run_trial(planned, experiment), experiment.record_path(planned))
    assert _is_done(planned, experiment, None)
    for name, (value, _, again) in SETTINGS.items():
        if value != "same":
            other = replace(settings, **{name: value})
            planned_anew = plan_experiment(faces[other.data], other, [Trial("baseline", "masked", 0, other.seed)])
            assert _is_done(planned_anew.trials[0], planned_anew, None) is not again, name


def test_a_setting_that_is_no_longer_given_and_another_lambda_are_differences():
    "kind: 1 | what: a setting that only the earlier run had, or another lambda as loss or optimiser | gets: an error that names it"
    from facekp.training.resume import describe_callable, differing_settings

    assert differing_settings({"seed": 0, "stage": 2}, {"seed": 0}) == ["stage 2 before, unknown now"] and differing_settings({"seed": 0}, {"seed": 0}) == []

    def scaled(factor):
        return lambda rate: rate * factor

    first, second = (lambda rate: rate * 2), (lambda rate: rate * 3)
    assert describe_callable(first) != describe_callable(second) and describe_callable(scaled(2)) != describe_callable(scaled(3))
    assert describe_callable(scaled(2)) == describe_callable(scaled(2)) and describe_callable(half_mse) == "half_mse"


# the arguments of fit: argument -> (other value, refused, words)
def half_mse(expected, predicted):
    from facekp.training.losses import masked_mse

    return masked_mse(expected, predicted) / 2


ARGUMENTS = {
    "model": (lambda: build(9), True, "network"), "train": (lambda: FACES[1:30], True, "training set"), "validation": (lambda: FACES[31:], True, "validation set"),
    "images_shown": (lambda: 180, False, ""), "batch_size": (lambda: 16, True, "batch_size 8 before, 16 now"), "learning_rate": (lambda: 0.01, True, "learning_rate 0.001 before, 0.01 now"),
    "loss": (lambda: half_mse, True, "loss masked_mse before, half_mse now"), "patience": (lambda: 9, True, "patience 6 before, 9 now"), "seed": (lambda: 1, True, "seed 0 before, 1 now"),
    "faces_per_epoch": (lambda: 10, True, "faces_per_epoch 30 before, 10 now"), "optimizer": (lambda: sgd(), True, "optimizer Adam before, SGD now"),
    "must_match": (lambda: {"stage": 2}, True, "stage unknown before, 2 now"), "show_progress": (lambda: True, False, ""), "inputs": (lambda: (FACES.images[:30], FACES.images[30:]), False, ""),
    "run_folder": None, "resume": None}
FACES = synthetic_faces(40, seed=4, workers=1)


def build(width: int = 8):
    from facekp.models.regression import build_baseline

    return build_baseline(width)


def sgd():
    import keras

    return keras.optimizers.SGD


def test_every_argument_of_fit_has_a_decision():
    from facekp.training.loop import fit

    assert set(inspect.signature(fit).parameters) == set(ARGUMENTS), "a new argument: may a run be resumed with another value of it?"


@pytest.mark.parametrize("name", [name for name, decision in ARGUMENTS.items() if decision])
def test_each_argument_of_fit_changed_alone_is_refused_by_name_or_allowed(name, tmp_path):
    "kind: 1 | what: facekp.fit resumed with another network, data set, loss, optimiser, batch size or seed | gets: UserError that names it, and an unchanged folder"
    from facekp.training.loop import fit

    start = {"model": build(), "train": FACES[:30], "validation": FACES[30:], "images_shown": 90, "batch_size": 8, "show_progress": False, "run_folder": tmp_path}
    fit(**start)
    value, refused, words = ARGUMENTS[name]
    before = everything_in(tmp_path)
    changed = start | {"model": build(), "resume": True, name: value()}
    if not refused:
        assert fit(**changed).epochs == (6 if name == "images_shown" else 3)
        return
    with pytest.raises(UserError, match="not the state of this training run") as caught:
        fit(**changed)
    assert words in str(caught.value) and everything_in(tmp_path) == before


def test_an_optimiser_with_other_arguments_is_a_different_one(tmp_path):
    "kind: 1 | what: facekp.fit resumed with another momentum | gets: UserError that states both optimisers"
    from facekp.training.loop import fit

    options = {"images_shown": 60, "batch_size": 8, "show_progress": False, "run_folder": tmp_path}
    fit(build(), FACES[:30], FACES[30:], optimizer=partial(sgd(), momentum=0.5), **options)
    with pytest.raises(UserError, match="optimizer SGD .* before, SGD .* now"):
        fit(build(), FACES[:30], FACES[30:], optimizer=partial(sgd(), momentum=0.9), resume=True, **options)


def test_shards_and_arguments_of_distributed_training_are_compared(tmp_path):
    "kind: 1 | what: distributed training resumed with other shards or another batch size, seed or learning rate | gets: UserError that names it; more epochs are allowed"
    from facekp.training.distributed import fit_shards
    from facekp.training.shards import read_shards, write_shards

    write_shards([FACES[:16]], tmp_path / "a", 8)
    write_shards([FACES[16:32]], tmp_path / "b", 8)
    start = {"shards": read_shards(tmp_path / "a"), "epochs": 1, "batch_size": 8, "run_folder": tmp_path / "run"}
    fit_shards(build, **start)
    for change, words in (({"shards": read_shards(tmp_path / "b")}, "shards"), ({"batch_size": 4}, "batch_size 8 before, 4 now"), ({"seed": 1}, "seed 0 before, 1 now"),
                          ({"learning_rate": 0.1}, "learning_rate 0.001 before, 0.1 now")):
        with pytest.raises(UserError, match="not the state of this training run") as caught:
            fit_shards(build, **(start | change), resume=True)
        assert words in str(caught.value)
    assert len(fit_shards(build, **(start | {"epochs": 2}), resume=True)[1]) == 2


def test_a_state_of_an_older_version_is_refused(tmp_path):
    "kind: 1 | what: --resume on the state of a version that did not record its settings | gets: UserError"
    from facekp.training.loop import fit

    options = {"images_shown": 60, "batch_size": 8, "show_progress": False, "run_folder": tmp_path}
    fit(build(), FACES[:30], FACES[30:], **options)
    with np.load(tmp_path / "state.npz") as saved:
        content = dict(saved)
    story = json.loads(str(content["story"]))
    del story["settings"]
    np.savez(tmp_path / "state.npz", **(content | {"story": json.dumps(story)}))
    with pytest.raises(UserError, match="seed unknown before, 0 now"):
        fit(build(), FACES[:30], FACES[30:], resume=True, **options)
