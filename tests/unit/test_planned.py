"facekp.experiments.planned: Holm's correction against its definition, and intervals that cover photographs and seeds."

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facekp.experiments.planned import bootstrap_difference, bootstrap_p_value, holm_adjust
from facekp.experiments.planned_table import read_plan
from facekp.models.registry import list_models
from facekp.statistics import bootstrap_means, confidence_interval

ROOT = Path(__file__).resolve().parents[2]


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_step_down_definition_rejects(p_values, level):
    adjusted = holm_adjust(p_values)
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(index)
    assert {index for index, value in enumerate(adjusted) if value <= level} == rejected
    assert (adjusted <= np.minimum(1, np.array(p_values) * len(p_values)) + 1e-12).all(), "never stricter than Bonferroni"


def test_with_one_run_each_the_difference_is_the_paired_bootstrap():
    rng = np.random.default_rng(0)
    first, second = rng.gamma(2, 2, (2, 60))
    groups = np.arange(60) // 3
    np.testing.assert_allclose(bootstrap_difference(first, second, groups, 4, 500), bootstrap_means(first - second, groups, 4, 500))


def test_the_variance_between_few_runs_is_not_underestimated():
    first, second = np.repeat([[1.0], [3.0]], 40, axis=1), np.repeat([[2.0], [2.0], [5.0]], 40, axis=1)
    resampled = bootstrap_difference(first, second, np.arange(40), 0, 40_000)
    expected = 2 / 2 + 3 / 3  # unbiased variances 2 and 3, over two and three runs
    np.testing.assert_allclose(resampled.var(), expected, rtol=0.03)
    np.testing.assert_allclose(resampled.mean(), 2 - 3, atol=0.03)


def test_equal_recipes_are_told_apart_about_as_often_as_the_level_says():
    "Ten runs each; runs of one recipe differ by more than an interval over photographs covers."
    found = {"seeds and photographs": 0, "photographs": 0}
    for trial in range(150):
        rng = np.random.default_rng(trial)
        faces = rng.gamma(4, 1, 80)
        first, second = (faces * (1 + rng.normal(0, 0.1, (10, 1))) for _ in range(2))
        resampled = bootstrap_difference(first, second, np.arange(80), trial, 400)
        found["seeds and photographs"] += bootstrap_p_value(resampled) < 0.05
        low, high = confidence_interval(bootstrap_means((first - second).mean(axis=0), np.arange(80), trial, 400))
        found["photographs"] += low > 0 or high < 0
    assert found["seeds and photographs"] <= 0.12 * 150 and found["photographs"] > 0.5 * 150


def test_the_plan_asks_the_same_of_every_trained_model():
    plan = read_plan(ROOT / "studies" / "planned_comparisons.csv")
    trained = [model for model in list_models() if model not in ("mean",)]
    for question, part in plan.groupby("question"):
        asked = {name.split("-")[0] for name in part["first"]}
        if question != "next model against the one before":
            assert asked <= set(trained) and len(part) == len(asked) == 8, question
    assert len(plan) == 37
