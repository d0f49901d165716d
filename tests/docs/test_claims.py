"The page of claims: every claim has a finding and a verdict, and its numbers are those of the records."

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facekp.experiments.results import read_study

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from claims import GAPS, claim_rows, claims_page, count, verdict, verdict_of_both


def rows() -> dict[str, list[str]]:
    lines = [line for line in claims_page().splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].strip("| "): [part.strip(" |*") for part in line.split(" | ")] for line in lines}


def test_every_claim_has_a_verdict():
    found = rows()
    assert len(found) >= 7 and all(len(row) == 4 and all(row) for row in found.values())
    for word in ("83%", "MSE 0.6", "forward fill", "KNN", "augmentation", "CNN", "increment"):
        assert any(word in claim for claim in found), word


def test_numbers_are_those_of_the_records():
    record = json.loads((ROOT / "results" / "kaggle_labels" / "accuracy.json").read_text())["constant_face"]
    assert f'{record["accuracy"]:.0%} "accurate" at an RMSE of {record["rmse"]:.2f} px' in claims_page()
    planned = pd.read_csv(ROOT / "results" / "grid_table" / "planned.csv")
    part = planned[planned.question == "noNA against forward fill"]
    assert f"lower in {(part.verdict == 'lower').sum()}" in rows()["dropping incomplete faces beats forward fill"][2]


@pytest.mark.parametrize("lower, none, higher, expected", [(3, 0, 0, "supported"), (7, 1, 0, "mostly supported"), (15, 5, 1, "mostly supported"), (7, 0, 1, "undecided"), (3, 5, 0, "undecided"),
                                                           (1, 2, 5, "contradicted"), (0, 2, 1, "contradicted"), (0, 4, 0, "undecided"), (0, 0, 0, "not tested yet")])
def test_verdicts_follow_from_the_counts(lower, none, higher, expected):
    verdicts = ["lower"] * lower + ["no difference seen"] * none + ["higher"] * higher
    assert verdict(count(pd.DataFrame({"question": "q", "verdict": pd.Series(verdicts, dtype=str)}), "q")) == expected


@pytest.mark.parametrize("random_gaps, expected", [((1, 2, 5), "supported only with the table's gaps"), ((7, 1, 0), "supported"), ((0, 4, 0), "supported")])
def test_a_claim_that_random_gaps_contradict_is_supported_with_the_gaps_of_the_table_only(random_gaps, expected):
    assert verdict_of_both((8, 0, 0), random_gaps) == expected
    assert verdict_of_both((3, 3, 2), random_gaps) == "undecided" and verdict_of_both((0, 0, 8), random_gaps) == "contradicted"


def test_a_claim_that_one_convention_contradicts_is_limited_to_the_conventions_of_the_table():
    assert verdict_of_both((8, 0, 0), (1, 2, 5), (0, 0, 3)) == "only with the table's conventions"
    assert verdict_of_both((8, 0, 0), (7, 1, 0), (3, 0, 0)) == "supported" and verdict_of_both((0, 0, 8), (0, 0, 8), (0, 0, 3)) == "contradicted"


def test_the_three_kinds_of_gaps_differ_in_one_thing_at_a_time():
    table, order, random = (read_study(ROOT / "results" / f"grid_{gaps}") for gaps in GAPS)
    assert order.meta["data"]["sha256"]["test"] == random.meta["data"]["sha256"]["test"] and (table.groups == order.groups).all() and (table.groups == random.groups).all()
    for model in order.runs.model.unique():
        rates = {study.runs.learning_rate[(study.runs.model == model) & (study.runs.augment == 0)].iloc[0] for study in (table, order, random)}
        assert len(rates) == 1 and study_seeds(order, model) == study_seeds(random, model) == ({0} if model == "mean" else {0, 1, 2})


def study_seeds(study, model: str) -> set[int]:
    return set(study.runs.seed[study.runs.model == model])


def test_the_readme_and_the_page_of_claims_have_one_verdict():
    page, readme = rows(), claim_rows()
    assert len(readme) == 6 and [page[row.iloc[0]][3] for _, row in readme.iterrows()] == readme.verdict.tolist()
    text = (ROOT / "README.md").read_text()
    for _, row in readme.iterrows():
        assert " | ".join(row) in text, "run make readme"


def test_the_score_of_the_project_is_below_any_on_unseen_photographs():
    runs = read_study(ROOT / "results" / "leakage").runs
    leaky, honest = (runs[runs["split"] == split].set_index("seed").sort_index() for split in ("copies split at random", "photographs split first"))
    assert len(leaky) == len(honest) >= 2 and (leaky.validation_rows_in_training > 0.99).all() and (honest.validation_rows_in_training == 0).all()
    assert leaky.training_rows_mse.max() < 0.6 < 1.28**2 < runs.unseen_photographs_mse.min()
    assert (leaky.validation_rows_mse < 0.8 * leaky.unseen_photographs_mse).all(), "validation rows with copies in training flatter the model"
    assert (abs(honest.validation_rows_mse / honest.unseen_photographs_mse - 1) < 0.4).all()
    np.testing.assert_allclose(runs.mse, runs.unseen_photographs_mse)