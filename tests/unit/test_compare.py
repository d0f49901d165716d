"The comparison: what is planned, run and listed, and what the tables show."

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joblib import delayed

from facekp.evaluation import METRICS, Metric, evaluate_points
from facekp.experiments.charts import show_comparison
from facekp.experiments.executors import run_jobs
from facekp.experiments.plan import Trial, find_weights, list_trials, plan_experiment, plan_trial
from facekp.experiments.results import Study, read_study, study_from_records
from facekp.experiments.run import run_course, run_experiment, run_trial
from facekp.experiments.statistics import compare_trials, count_verdicts, summarize_runs
from facekp.experiments.tables import not_run_text, table_markdown, table_text
from facekp.models.registry import list_models

MODELS, PRETRAINED = list_models(), list_models(pretrained=True)
from facekp.config import Settings, load_settings
from facekp.errors import UserError
from facekp.experiments.record import Record
from facekp.synthetic.renderer import synthetic_faces

GROUPS = np.repeat(np.arange(20), 2)


def record_of(model: str, labels: str, augment: int, seed: int, mean_square: float, **changes) -> Record:
    noise = np.random.default_rng([seed, augment, len(labels)]).normal(0, 0.05, 40)
    squared = np.linspace(0.5, 1.5, 40) * mean_square + noise
    metrics = {"rmse": float(np.sqrt(squared.mean())), "accuracy": 0.7, "nme_eye_centers": 0.07, "pck": 0.8}
    return Record(model, labels, augment, "full", seed, {"sha256": {}, "n_used": 12_345}, {"images": 30_000}, 1_000, 3, 30_000, 60.0, metrics,
                  squared_errors=squared.tolist(), **changes)


def full_study() -> Study:
    records = [record_of(model, labels, augment, seed, 3 + place + 0.5 * (labels == "knn") - 0.4 * (augment > 0),
                         weights_from=f"file {model}_of_somewhere.weights.h5 sha256 {'0' * 64}" if model in PRETRAINED else "")
               for place, model in enumerate(MODELS) for labels in ("complete", "knn", "masked")
               for augment in ((0,) if model == "mean" else (0, 12)) for seed in (0, 1)]
    return study_from_records({Trial(record.model, record.labels, record.augment, record.seed).name: record for record in records}, GROUPS)


@pytest.fixture
def settings(tmp_path) -> Settings:
    folders = {name: str(tmp_path / name) for name in ("data_folder", "runs_folder", "results_folder", "photos_folder", "weights")}
    return replace(load_settings("quick"), **folders, models="mean", labels="complete masked", augment=0, seeds=1)


def test_a_metric_is_added_by_its_entry_alone(monkeypatch):
    "Its value and interval, its column in runs, both kinds of tables and the site are made from it."
    added = Metric(lambda predicted, points: np.abs(predicted - points).max(axis=(1, 2)), "largest, px", "mean of each face's largest error, pixels", share=False, tabulated=True)
    monkeypatch.setitem(METRICS, "largest", added)
    points = np.random.default_rng(0).uniform(20, 76, (40, 15, 2))
    scores = evaluate_points(points + np.linspace(1, 2, 40)[:, None, None], points, GROUPS, resamples=200)
    low, high = scores["intervals"]["largest"]
    assert scores["largest"] == pytest.approx(1.5) and 1.3 < low < 1.5 < high < 1.7
    squared = (np.linspace(1, 2, 40) ** 2).tolist()
    record = replace(record_of("cnn", "complete", 0, 0, 1), metrics=scores, squared_errors=squared)
    study = study_from_records({"cnn-complete-augment0-seed0": record}, GROUPS)
    table = summarize_runs(study)
    assert study.runs.largest.item() == table.largest.item() == pytest.approx(1.5)
    assert "largest, px" in table_markdown(table) and " 1.50 " in table_markdown(table)


def test_plan_has_every_trial_once(settings):
    trials = list_trials(replace(settings, models="mean baseline resnet50", augment=12, seeds=2))
    assert len(trials) == len(set(trials)) == 2 + 2 * (2 * 2 * 2)
    assert {trial.augment for trial in trials if trial.model == "mean"} == {0}
    assert len({trial.name for trial in trials}) == len(trials)


@pytest.mark.parametrize("wrong, words", [({"models": "resnet5"}, "did you mean 'resnet50'"),
                                          ({"labels": "noNA"}, "label strategy 'noNA' is unknown")])
def test_unknown_names_are_named(settings, wrong, words):
    with pytest.raises(UserError, match=re.escape(words)):
        list_trials(replace(settings, **wrong))


@pytest.mark.parametrize("name, model", [
    ("mobilenet_v2_imagenet_notop.weights.h5", "mobilenetv2"), ("mobilenetv2_imagenet_int8.npz", "mobilenetv2"), ("MobileNetV2.h5", "mobilenetv2"),
    ("efficientnetb7_notop.h5", "efficientnetb7"), ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50"),
    ("resnet50-faces.keras", "resnet50"), ("resnet50v2_notop.h5", None), ("efficientnetb70.h5", None), ("my_resnet50.h5", None),
    ("resnet50.txt", None)])
def test_a_folder_of_weights_is_searched_by_name(settings, name, model):
    Path(settings.weights).mkdir()
    (Path(settings.weights) / name).touch()
    found = {candidate: find_weights(candidate, settings.weights) for candidate in MODELS}
    assert {candidate for candidate, path in found.items() if path} == ({model} if model else set())


def test_weights_setting_none_imagenet_and_missing_folder(settings):
    assert find_weights("resnet50", "none") is None
    assert find_weights("resnet50", "imagenet") == "imagenet"
    assert find_weights("cnn", "imagenet") is None
    assert find_weights("resnet50", settings.weights) is None


def test_weights_of_the_settings_file_are_a_folder_beside_it(tmp_path):
    (tmp_path / "settings.ini").write_text("[course]\nweights = mine\n")
    assert load_settings("quick", start=tmp_path).weights == str(tmp_path.resolve() / "mine")
    (tmp_path / "settings.ini").write_text("[course]\nweights = imagenet\n")
    assert load_settings("quick", start=tmp_path).weights == "imagenet"


def planned(model: str, settings: Settings, gpu_count: int = 0):
    return plan_trial(Trial(model, "masked", 0, 0), settings, gpu_count)


def test_budget_is_the_same_for_every_model_of_a_kind(settings):
    for kind in (("cnn", "heatmap", "nouri2014", "naimishnet"), PRETRAINED):
        assert len({planned(model, settings).images for model in kind}) == 1
    assert planned("resnet50", replace(settings, transfer_images=77)).budget["images"] == 77


def test_what_two_cores_cannot_afford_runs_on_a_graphics_card():
    full = load_settings("full")
    assert not planned("efficientnetb7", full).affordable and planned("efficientnetb7", full, gpu_count=1).affordable
    assert planned("heatmap", full).affordable
    small = planned("efficientnetb7", replace(full, transfer_images=64))
    assert small.affordable and small.minutes < 1


def test_a_model_is_one_file_of_the_zoo():
    import facekp.models.zoo

    files = {path.stem for path in Path(facekp.models.zoo.__path__[0]).glob("[!_]*.py")}
    assert set(list_models()) == files and len(files) >= 10


def test_grid_runs_what_is_affordable_and_lists_the_rest(settings):
    settings = replace(settings, models="mean resnet50", minutes_per_trial=1, transfer_images=100_000)
    faces = replace(synthetic_faces(60, seed=3, workers=1), name="my faces")
    table, _, folder = run_course(faces, settings, workers=1)
    assert table.model.tolist() == ["mean", "mean"] and not list(folder.glob("resnet50*"))
    assert read_study(folder).meta["data"]["name"] == "my faces"
    listed = (folder / "not_run.md").read_text()
    assert listed.startswith("Not run: 2 of 4 trials") and "--models 'resnet50'" in listed and "| mean " not in listed


def test_tables_hold_all_runs_on_the_same_faces(settings):
    faces = synthetic_faces(60, seed=3, workers=1)
    run_course(faces, replace(settings, labels="masked"), workers=1)
    table, _, folder = run_course(faces, replace(settings, labels="complete"), workers=1)
    assert set(table.labels) == {"complete", "masked"} and len(read_study(folder)) == 2
    assert (folder / "not_run.md").read_text().startswith("Every trial")


def test_results_of_other_faces_are_moved_aside(settings):
    first, second = synthetic_faces(60, seed=3, workers=1), replace(synthetic_faces(60, seed=4, workers=1))
    _, _, folder = run_course(first, settings, workers=1)
    before = (folder / "runs.csv").read_text()
    _, _, again = run_course(replace(second, name=first.name), settings, workers=1)
    aside = [path for path in folder.parent.iterdir() if path != folder]
    assert again == folder and len(aside) == 1 and (aside[0] / "runs.csv").read_text() == before
    assert read_study(folder).meta["data"]["sha256"] != read_study(aside[0]).meta["data"]["sha256"]


def test_results_without_records_of_single_runs_are_enough(settings, monkeypatch):
    import shutil

    faces = synthetic_faces(60, seed=3, workers=1)
    run_course(faces, settings, workers=1)
    shutil.rmtree(settings.runs_folder)
    monkeypatch.setattr("facekp.experiments.run.run_trial", lambda *_, **__: 1 / 0)
    table, _, _ = run_course(faces, settings, workers=1)
    assert len(table) == 2


def test_another_budget_runs_again_and_replaces_the_run(settings):
    faces, small = synthetic_faces(60, seed=3, workers=1), replace(settings, models="baseline", labels="masked", baseline_images=64)
    _, _, folder = run_course(faces, small, workers=1)
    assert read_study(folder).runs.images.tolist() == [64]
    run_course(faces, replace(small, baseline_images=128), workers=1)
    assert read_study(folder).runs.images.tolist() == [128]


def test_nothing_affordable_is_said_in_one_line(settings):
    with pytest.raises(UserError, match="raise minutes_per_trial"):
        run_course(synthetic_faces(60, seed=3, workers=1), replace(settings, models="efficientnetb7", minutes_per_trial=1, transfer_images=10_000))


def test_failed_trials_are_named_at_the_end_and_the_others_kept(settings, monkeypatch):
    from facekp.errors import RunError

    experiment = plan_experiment(synthetic_faces(60, seed=3, workers=1), settings)
    real = run_trial
    broken = lambda planned, *rest, **options: 1 / 0 if planned.trial.labels == "complete" else real(planned, *rest, **options)
    monkeypatch.setattr("facekp.experiments.run.run_trial", broken)
    with pytest.raises(RunError, match="1 of 2 trials failed.*mean-complete-augment0-seed0: ZeroDivisionError"):
        run_experiment(experiment, workers=1)
    assert read_study(experiment.results_folder).runs.index.tolist() == ["mean-masked-augment0-seed0"]


def test_pretrained_nets_are_trained_in_stages_and_say_what_from(settings, monkeypatch):
    from facekp.training.loop import fit

    seen = {}

    def build(name, weights):
        from facekp.models.regression import build_baseline
        seen["weights"] = weights
        model = build_baseline(4)
        model.name = name
        return model

    def train(model, train, validation, features_folder, **options):
        seen.update(options, features_folder=features_folder)
        return fit(model, train, validation, **options)

    monkeypatch.setattr("facekp.models.transfer.build_transfer", build)
    monkeypatch.setattr("facekp.training.transfer.fit_transfer", train)
    Path(settings.weights).mkdir()
    file = Path(settings.weights) / "mobilenet_v2.weights.h5"
    file.write_bytes(b"weights")
    experiment = plan_experiment(synthetic_faces(60, seed=3, workers=1), replace(settings, transfer_images=40), [Trial("mobilenetv2", "masked", 0, 0)])
    record = run_trial(experiment.trials[0], experiment)
    assert seen["weights"] == file and seen["images_shown"] == 40 and seen["faces_per_epoch"] == 10
    assert str(seen["features_folder"]).startswith(settings.runs_folder)
    assert record.model == "mobilenetv2" and file.name in record.weights_from


def test_processes_end_soon_after_the_work(monkeypatch):
    monkeypatch.setattr("facekp.experiments.executors.IDLE_SECONDS", 1)
    pids = set(run_jobs([delayed(os.getpid)() for _ in range(4)], 2))
    assert os.getpid() not in pids
    ends = time.monotonic() + 20
    while (alive := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < ends:
        time.sleep(0.2)
    assert not alive


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_thread_settings_are_put_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    inside = run_jobs([delayed(os.getenv)("TF_NUM_INTRAOP_THREADS")], 2)
    assert inside == ["1"] and os.environ["OMP_NUM_THREADS"] == "2" and "TF_NUM_INTRAOP_THREADS" not in os.environ


def test_table_fits_a_terminal_and_says_what_rows_do_not():
    table = summarize_runs(full_study())
    text = table_text(table)
    assert max(map(len, text.splitlines())) < 100
    assert table.seeds.eq(2).all() and len(table) == 3 + (len(MODELS) - 1) * 3 * 2
    assert "Initial weights of resnet50: resnet50_of_somewhere.weights.h5." in text and "30,000" in text
    markdown = table_markdown(table)
    assert markdown.endswith("\n") and markdown.count("\n| ") == len(table)


def test_claims_are_counted_for_every_model():
    comparisons = compare_trials(full_study())
    counts = count_verdicts(comparisons).set_index(["question", "model"])
    assert "mean" not in counts.index.get_level_values("model")
    for model in MODELS[1:]:
        assert counts.loc[("complete against knn", model), "lower"] == 2  # the MSE of every knn row is half a square pixel higher
        assert counts.loc[("augmented against not", model), "lower"] == 3
        assert counts.loc[("augmented against not", model), "most"] < 0
    against = comparisons[(comparisons.question == "complete against knn") & (comparisons.model == "cnn")]
    assert against.mse_difference.to_numpy() == pytest.approx(-0.5, abs=0.1) and (against.high < 0).all()


def test_chart_has_a_panel_per_model_in_rows_of_five():
    import matplotlib.pyplot as plt

    figure = show_comparison(summarize_runs(full_study()), "ten models")
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == list(MODELS) and figure.get_size_inches()[0] < 15
    plt.close(figure)


def test_chart_leaves_no_panel_empty_and_says_what_was_not_trained():
    import matplotlib.pyplot as plt

    table = summarize_runs(full_study())
    few = table[table.model.isin(MODELS[:8]) & ((table.model != "cnn") | (table.labels == "knn"))]
    figure = show_comparison(few, "eight models")
    assert len(figure.axes) == 8 and all(axis.axison for axis in figure.axes)
    said = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert said.pop("cnn") == ["not trained"] * (few.labels.nunique() - 1) and not any(said.values())
    plt.close(figure)


def test_listing_is_short_when_all_is_there(settings):
    experiment = plan_experiment(synthetic_faces(60, seed=3, workers=1), settings)
    assert not_run_text(experiment, []).startswith("Every trial") and "Not run: 2 of 2" in not_run_text(experiment, experiment.trials)


def test_paired_differences_see_what_the_errors_alone_do_not():
    study = full_study()
    table, comparisons = summarize_runs(study), compare_trials(study)
    row = comparisons[(comparisons.question == "augmented against not") & (comparisons.model == "cnn") & (comparisons.labels == "masked")].iloc[0]
    both = table[(table.model == "cnn") & (table.labels == "masked")]
    assert both.low.max() < both.high.min() and row.high < 0
