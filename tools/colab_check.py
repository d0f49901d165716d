"""Run every lesson and the capstone as Colab does: alone, in an empty folder, in a new environment with the wheel and Jupyter's kernel.

python tools/colab_check.py [NAME ...]: all of them, or those whose names begin with NAME. The badge and the set-up cell are added to notebooks
that lack them. `google.colab` is replaced by a stand-in module, so that the set-up cell installs the same packages as in Colab.
With `--out FOLDER` the executed notebooks are kept, so that their figures can be checked; `--python FILE` uses the environment of that Python,
for example one with JupyterLab, instead of a new one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from colab import as_text, with_colab
from lessons import course_paths, page_name

STAND_IN = {"cell_type": "code", "execution_count": None, "id": "stand-in", "metadata": {}, "outputs": [],
            "source": ["import sys, types\n", "sys.modules['google.colab'] = types.ModuleType('google.colab')"]}
RUN = """import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
try:
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
finally:
    nbformat.write(notebook, sys.argv[1])
"""


def clean_environment() -> dict[str, str]:
    "Return the environment variables without those of Python and facekp: with PYTHONPATH, pip takes the working tree for an installed package."
    return {key: value for key, value in os.environ.items() if not key.startswith(("FACEKP", "PYTHON"))}


def make_environment(folder: Path) -> Path:
    "Create an environment with the wheel of this repository; return its Python."
    environment = clean_environment()
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "dist", ROOT], check=True, cwd=folder, env=environment)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    wheel = next((folder / "dist").glob("facekp-*.whl"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[train]", "nbclient", "ipykernel"], check=True, cwd=folder, env=environment)
    return python


def run_alone(path: Path, python: Path, out: Path | None = None) -> str:
    "Run a notebook in an empty folder and keep the executed one in `out`; return the end of its error message, or an empty string."
    environment = clean_environment()
    environment["FACEKP_REPOSITORY_FILES"] = str(ROOT)  # replaces the download of results and weights from the repository
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as beside:
        notebook = with_colab(json.loads(path.read_text(encoding="utf-8")), page_name(path))
        notebook["cells"].insert(0, STAND_IN)
        copy = Path(beside) / path.name
        copy.write_text(as_text(notebook), encoding="utf-8")
        done = subprocess.run([python, "-c", RUN, copy, empty], cwd=empty, env=environment, capture_output=True, text=True, check=False)
        if out is not None:
            shutil.copy(copy, out / path.name)
    return done.stderr[-2000:] if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of the names of notebooks (default: all)")
    parser.add_argument("--python", type=Path, help="Python of an environment with the wheel, nbclient and ipykernel")
    parser.add_argument("--out", type=Path, help="folder for the executed notebooks")
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    paths = [path for path in course_paths() if path.name.startswith(tuple(options.names) or ("",))]
    if not paths:
        parser.error(f"no notebook has a name that begins with {' or '.join(options.names)}; expected the beginning of a file name, such as 07_augmentation or 07")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        python = options.python.absolute() if options.python else make_environment(Path(folder))
        for path in paths:
            start, error = time.time(), run_alone(path, python, options.out)
            failed += [path.name] if error else []
            print(f"{path.name}: {'failed' if error else 'ran'}, {time.time() - start:.0f} s\n{error}".rstrip(), flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "every notebook runs alone")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
