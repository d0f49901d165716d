"The README's commands and its Python code run as they are written there."

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from facekp.cli import main
from facekp.synthetic.renderer import synthetic_faces

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_and_the_python_of_the_readme_run(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    face = np.repeat(cv2.resize(synthetic_faces(3, seed=3, workers=1).images[0], (120, 120))[..., None], 3, axis=2)
    scene = cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.png"):
        assert cv2.imwrite(str(tmp_path / name), scene)
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (240, 240))
    for _ in range(4):
        video.write(scene)
    video.release()
    commands = re.findall(r"^facekp (predict .+)$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(shlex.split(command.replace("photo.jpg", f"{tmp_path}/photo.jpg").replace("photos/", f"{tmp_path}/photos/").replace("clip.mp4", f"{tmp_path}/clip.mp4").replace("found", f"{tmp_path}/found"))) == 0
    assert (tmp_path / "found" / "photo-points.jpg").is_file()
    table = pd.read_csv(tmp_path / "found" / "predictions.csv")
    assert len(table) == 5 and table.mouth_opening.between(0, 1).all() and table.yaw.abs().max() < 90
    done = subprocess.run([sys.executable, "-c", re.search(r"```python\n(.+?)```", text, re.DOTALL)[1]], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 5 and all(0 < float(line.strip("[]")) < 1 for line in lines[1:]), done.stderr
