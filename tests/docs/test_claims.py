"The page of claims: every claim has a finding and a verdict, and its numbers are those of the records."

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from claims import claims_page, count, verdict


def rows() -> dict[str, list[str]]:
    lines = [line for line in claims_page().splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].strip("| "): [part.strip(" |*") for part in line.split(" | ")] for line in lines}


def test_every_claim_has_a_verdict():
    found = rows()
    assert len(found) >= 7 and all(len(row) == 4 and all(row) for row in found.values())
    for word in ("83%", "MSE 0.6", "forward fill", "KNN", "augmentation", "CNN", "increment"):
        assert any(word in claim for claim in found), word


def test_numbers_are_those_of_the_records():
    record = json.loads((ROOT / "results" / "accuracy_kaggle_labels.json").read_text())["constant_face"]
    assert f'{record["accuracy"]:.0%} "accurate" at an RMSE of {record["rmse"]:.2f} px' in claims_page()
    if not (ROOT / "results" / "grid_table" / "planned.csv").is_file():
        answers = pd.read_csv(ROOT / "results" / "full" / "helen_afw_96" / "answers.csv")
        part = answers[(answers.question == "complete against ffill") & (answers.model != "mean")]
        assert f"lower in {(part.verdict == 'lower').sum()}" in rows()["noNA is best: against forward fill"][2]


@pytest.mark.parametrize("verdicts, expected", [(["lower"] * 3, "holds"), (["lower", "lower", "no difference shown"], "holds in most cases"), (["lower", "higher"], "depends on the case"),
                                                (["higher", "no difference shown"], "does not hold"), ([], "not tested yet")])
def test_verdicts_follow_from_the_counts(verdicts, expected):
    assert verdict(count(pd.DataFrame({"question": "q", "verdict": pd.Series(verdicts, dtype=str)}), "q")) == expected


def test_the_score_of_the_project_is_below_any_on_unseen_photographs():
    record = json.loads((ROOT / "results" / "leakage" / "meta.json").read_text())
    for run in record["runs"]:
        leaky, honest = run["copies split at random"], run["photographs split first"]
        assert leaky["validation photographs also in training"] > 0.99 and honest["validation photographs also in training"] == 0
        assert leaky["training rows"]["mse"] < 0.6 < 1.28**2 < min(leaky["unseen photographs"]["mse"], honest["unseen photographs"]["mse"])
        assert leaky["validation rows"]["mse"] < 0.8 * leaky["unseen photographs"]["mse"], "validation rows with copies in training flatter the model"
        assert abs(honest["validation rows"]["mse"] / honest["unseen photographs"]["mse"] - 1) < 0.4
