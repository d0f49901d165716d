"The comparison: what is planned, what is run, what is listed, and what the tables say."

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joblib import delayed


from facekp.experiments.charts import show_comparison
from facekp.experiments.executors import run_jobs
from facekp.experiments.plan import Trial, budget_of, estimate_minutes, is_affordable, plan_trials, split_for_comparison, weights_for
from facekp.experiments.run import run_course, run_grid, run_trial
from facekp.experiments.statistics import compare_records, compare_trials, count_verdicts
from facekp.experiments.tables import not_run_text, table_markdown, table_text
from facekp.models.registry import list_models, model_spec

MODELS, PRETRAINED = list_models(), list_models(pretrained=True)
from facekp.config import Settings, load_settings
from facekp.errors import UserError
from facekp.synthetic.renderer import synthetic_faces
from facekp.experiments.record import Record, read_record, write_record
from facekp.experiments.run import run_trial

GROUPS = np.repeat(np.arange(20), 2)


def record_of(model: str, labels: str, augment: int, seed: int, mean_square: float, **changes) -> Record:
    noise = np.random.default_rng([seed, augment, len(labels)]).normal(0, 0.05, 40)
    squared = np.linspace(0.5, 1.5, 40) * mean_square + noise
    metrics = {"rmse": float(np.sqrt(squared.mean())), "accuracy": 0.7, "nme": 0.07, "pck": 0.8}
    return Record(model, labels, augment, "full", seed, {"n_used": 12_345}, {"images": 30_000}, 1_000, 3, 30_000, 60.0, metrics,
                  squared_errors=squared.tolist(), **changes)


def all_records() -> list[Record]:
    return [record_of(model, labels, augment, seed, 3 + place + 0.5 * (labels == "knn") - 0.4 * (augment > 0),
                      weights_from=f"file {model}_of_somewhere.weights.h5 sha256 {'0' * 64}" if model in PRETRAINED else "")
            for place, model in enumerate(MODELS) for labels in ("complete", "knn", "masked")
            for augment in ((0,) if model == "mean" else (0, 12)) for seed in (0, 1)]


@pytest.fixture
def settings(tmp_path) -> Settings:
    folders = {name: str(tmp_path / name) for name in ("data_folder", "runs_folder", "results_folder", "photos_folder", "weights")}
    return replace(load_settings("quick"), **folders, models="mean", labels="complete masked", augment=0, seeds=1)


def test_plan_has_every_cell_once(settings):
    cells = plan_trials(replace(settings, models="mean baseline resnet50", augment=12, seeds=2))
    assert len(cells) == len(set(cells)) == 2 + 2 * (2 * 2 * 2)
    assert {cell.augment for cell in cells if cell.model == "mean"} == {0}
    assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize("wrong, words", [({"models": "resnet5"}, "did you mean 'resnet50'"),
                                          ({"labels": "noNA"}, "label repair 'noNA' is unknown")])
def test_unknown_names_are_named(settings, wrong, words):
    with pytest.raises(UserError, match=re.escape(words)):
        plan_trials(replace(settings, **wrong))


@pytest.mark.parametrize("name, model", [
    ("mobilenet_v2_imagenet_notop.weights.h5", "mobilenetv2"), ("MobileNetV2.h5", "mobilenetv2"),
    ("efficientnetb7_notop.h5", "efficientnetb7"), ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50"),
    ("resnet50-faces.keras", "resnet50"), ("resnet50v2_notop.h5", None), ("efficientnetb70.h5", None), ("my_resnet50.h5", None),
    ("resnet50.txt", None)])
def test_a_folder_of_weights_is_searched_by_name(settings, name, model):
    Path(settings.weights).mkdir()
    (Path(settings.weights) / name).touch()
    found = {candidate: weights_for(candidate, settings) for candidate in MODELS}
    assert {candidate for candidate, path in found.items() if path} == ({model} if model else set())


def test_weights_setting_none_imagenet_and_missing_folder(settings):
    assert weights_for("resnet50", replace(settings, weights="none")) is None
    assert weights_for("resnet50", replace(settings, weights="imagenet")) == "imagenet"
    assert weights_for("cnn", replace(settings, weights="imagenet")) is None
    assert weights_for("resnet50", settings) is None


def test_weights_of_the_settings_file_are_a_folder_beside_it(tmp_path):
    (tmp_path / "settings.ini").write_text("[course]\nweights = mine\n")
    assert load_settings("quick", start=tmp_path).weights == str(tmp_path.resolve() / "mine")
    (tmp_path / "settings.ini").write_text("[course]\nweights = imagenet\n")
    assert load_settings("quick", start=tmp_path).weights == "imagenet"


def test_budget_is_the_same_for_every_model_of_a_kind(settings):
    for kind in (("cnn", "heatmap", "nouri2014", "naimishnet"), PRETRAINED):
        assert len({budget_of(model, settings)["images"] for model in kind}) == 1
    assert budget_of("resnet50", replace(settings, transfer_images=77))["images"] == 77


def test_what_two_cores_cannot_afford_runs_on_a_graphics_card():
    full = load_settings("full")
    cell = Trial("efficientnetb7", "masked", 0, 0)
    assert not is_affordable(cell, full) and is_affordable(cell, full, gpu_count=1)
    assert is_affordable(Trial("heatmap", "masked", 12, 0), full)
    assert is_affordable(cell, replace(full, transfer_images=64))
    assert estimate_minutes("efficientnetb7", replace(full, transfer_images=64)) < 1


def test_grid_runs_what_is_affordable_and_lists_the_rest(settings):
    settings = replace(settings, models="mean resnet50", minutes_per_trial=1, transfer_images=100_000)
    faces = replace(synthetic_faces(60, seed=3, workers=1), name="my faces")
    table, _, folder = run_course(faces, settings, workers=1)
    assert table.model.tolist() == ["mean", "mean"] and not list(folder.glob("resnet50*"))
    assert read_record(folder / "mean-masked-augment0-seed0.json").data["name"] == "my faces"
    listed = (folder / "not_run.md").read_text()
    assert listed.startswith("Not run: 2 of 4 trainings") and "--models 'resnet50'" in listed and "| mean |" not in listed


def test_tables_hold_all_records_of_the_same_faces(settings):
    faces = synthetic_faces(60, seed=3, workers=1)
    run_course(faces, replace(settings, labels="masked"), workers=1)
    table, _, folder = run_course(faces, replace(settings, labels="complete"), workers=1)
    assert set(table.labels) == {"complete", "masked"}
    other = replace(read_record(folder / "mean-masked-augment0-seed0.json"), model="cnn")
    other.data["sha256"]["test"] = "another test part"
    write_record(other, folder / "cnn-masked-augment0-seed0.json")
    table, _, _ = run_course(faces, settings, workers=1)
    assert set(table.model) == {"mean"}
    assert (folder / "not_run.md").read_text().startswith("Every training")


def test_nothing_affordable_is_said_in_one_line(settings):
    with pytest.raises(UserError, match="raise minutes_per_trial"):
        run_course(synthetic_faces(60, seed=3, workers=1), replace(settings, models="efficientnetb7", minutes_per_trial=1, transfer_images=10_000))


def test_failed_cells_are_named_at_the_end_and_the_others_kept(settings, monkeypatch):
    from facekp.errors import RunError

    split = split_for_comparison(synthetic_faces(60, seed=3, workers=1), settings)
    real = run_trial
    broken = lambda cell, *rest, **options: 1 / 0 if cell.labels == "complete" else real(cell, *rest, **options)
    monkeypatch.setattr("facekp.experiments.run.run_trial", broken)
    folder = Path(settings.results_folder) / "some"
    with pytest.raises(RunError, match="1 of 2 trainings failed.*mean-complete-augment0-seed0: ZeroDivisionError"):
        run_grid(split, settings, folder, workers=1)
    assert [path.name for path in folder.glob("*-seed0.json")] == ["mean-masked-augment0-seed0.json"]


def test_pretrained_nets_are_trained_in_stages_and_say_what_from(settings, monkeypatch):
    import facekp.transfer
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
    split = split_for_comparison(synthetic_faces(60, seed=3, workers=1), settings)
    record = run_trial(Trial("mobilenetv2", "masked", 0, 0), split, replace(settings, transfer_images=40))
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
    table = compare_records(all_records(), GROUPS)
    text = table_text(table)
    assert max(map(len, text.splitlines())) < 100
    assert table.seeds.eq(2).all() and len(table) == 3 + (len(MODELS) - 1) * 3 * 2
    assert "resnet50 starts from: resnet50_of_somewhere.weights.h5." in text and "30,000" in text
    markdown = table_markdown(table)
    assert markdown.endswith("\n") and markdown.count("\n| ") == len(table) + 1


def test_claims_are_counted_for_every_model():
    records = all_records()
    answers = compare_trials(records, GROUPS)
    counts = count_verdicts(answers).set_index(["question", "model"])
    assert "mean" not in counts.index.get_level_values("model")
    for model in MODELS[1:]:
        assert counts.loc[("complete against knn", model), "lower"] == 2  # every knn row is half a square pixel worse
        assert counts.loc[("augmented against not", model), "lower"] == 3
        assert counts.loc[("augmented against not", model), "most"] < 0
    against = answers[(answers.question == "complete against knn") & (answers.model == "cnn")]
    assert against.mse_difference.to_numpy() == pytest.approx(-0.5, abs=0.1) and (against.high < 0).all()


def test_chart_has_a_panel_a_model_in_rows_of_five():
    import matplotlib.pyplot as plt

    figure = show_comparison(compare_records(all_records(), GROUPS), "nine models")
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == list(MODELS) and figure.get_size_inches()[0] < 15
    plt.close(figure)


def test_chart_leaves_no_panel_empty_and_says_what_was_not_trained():
    import matplotlib.pyplot as plt

    table = compare_records(all_records(), GROUPS)
    few = table[table.model.isin(MODELS[:8]) & ((table.model != "cnn") | (table.labels == "knn"))]
    figure = show_comparison(few, "eight models")
    assert len(figure.axes) == 8 and all(axis.axison for axis in figure.axes)
    said = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert said.pop("cnn") == ["not trained"] * (few.labels.nunique() - 1) and not any(said.values())
    plt.close(figure)


def test_listing_is_empty_when_all_is_there(settings, tmp_path):
    for cell in plan_trials(settings):
        (tmp_path / f"{cell.name}.json").touch()
    assert not_run_text(settings, tmp_path) == ""
