"The study of leakage: which rows share photographs, and what its results contain."

import numpy as np
import pytest
from scripts import load_script

from facekp.data.npz import save_npz
from facekp.experiments.results import read_study
from facekp.synthetic.renderer import synthetic_faces

leakage = load_script("studies/leakage.py")


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(40, seed=0)


def test_only_the_split_after_augmentation_shares_photographs(faces):
    mixed, honest = (leakage.split_rows(kind, faces, 6, seed=0) for kind in leakage.SPLITS)
    assert len(mixed[0]) + len(mixed[1]) == 40 * 7 and np.isin(mixed[1].group, mixed[0].group).mean() > 0.9
    assert not np.isin(honest[1].group, honest[0].group).any() and len(np.unique(np.concatenate([honest[0].group, honest[1].group]))) == 40
    np.testing.assert_array_equal(leakage.split_rows(leakage.SPLITS[0], faces, 6, seed=0)[0].images, mixed[0].images)
    assert not np.array_equal(leakage.split_rows(leakage.SPLITS[0], faces, 6, seed=1)[0].images, mixed[0].images)


def test_each_run_is_written_once_with_its_three_scores(faces, tmp_path, capsys):
    command = ["--faces", str(save_npz(faces, tmp_path / "faces.npz")), "--models", "baseline", "--images", "80", "--copies", "2", "--photos", "20", "--out", str(tmp_path / "leakage")]
    leakage.main(command)
    study = read_study(tmp_path / "leakage")
    assert len(study) == 2 and set(study.runs["split"]) == set(leakage.SPLITS) and study.squared_errors.shape == (2, 8) and study.meta["data"]["photographs"] == 20
    for part in ("training_rows", "validation_rows", "unseen_photographs"):
        low, mse, high = (study.runs[f"{part}_{name}"] for name in ("mse_low", "mse", "mse_high"))
        assert (low <= mse).all() and (mse <= high).all()
    np.testing.assert_allclose(study.squared_errors.mean(axis=1), study.runs.unseen_photographs_mse, rtol=1e-4)
    printed = capsys.readouterr().out.count("seed0")
    leakage.main(command)
    assert printed == 2 and "seed0" not in capsys.readouterr().out
