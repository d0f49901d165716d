"Fixtures that several files of fault tests share."

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    "Return a working folder with an image."
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.full((40, 60, 3), 90, np.uint8))
    return tmp_path
