"""Set up the oldest or the newest versions that pyproject.toml admits, run every notebook and test there, and write down what passed.

    python benchmarks/versions.py oldest --python python3.10
    python benchmarks/versions.py newest --python python3.13

Takes a clone of the last commit into --folder, with an environment of its own in it (half an hour with the tests; nothing is changed here but the record).
oldest: uv resolves the package and its dev extra with every lower bound as the version (`--resolution lowest-direct`; what they need in turn is as new
as fits). newest: pip installs what is newest. Needs nothing but Python. The record: results/reliability/versions.json, one row each.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOLD = """
import importlib.metadata, json, platform, re, sys
names = {re.split(r"[ <>=!~;\\[(]", told)[0] for told in importlib.metadata.requires("facekp") if "extra ==" not in told or "dev" in told or "docs" in told or "deploy" in told}
found = {}
for name in sorted(names - {"facekp"}):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps({"python": platform.python_version(), **found}))
"""


def set_up(which: str, python: str, folder: Path) -> Path:
    "Clone, make the environment, install; its Python."
    if not (folder / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    inside = folder / ".venv" / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder / ".venv"], check=True)
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if which == "oldest":
        subprocess.run([*install, "uv"], check=True)
        subprocess.run([inside, "-m", "uv", "pip", "install", "--quiet", "--python", inside, "--resolution", "lowest-direct", "-e", ".[dev]"], cwd=folder, check=True)
    else:
        subprocess.run([*install, "-e", ".[dev]"], cwd=folder, check=True)
    subprocess.run([inside, "nbs/_site/browser.py"], cwd=folder, check=True)
    return inside


def run_notebooks(python: Path, folder: Path, workers: str) -> dict:
    "Run all notebooks as tests: how many there are, and which failed."
    started = time.perf_counter()
    done = subprocess.run([python.parent / "nbdev-test", "--n-workers", workers], cwd=folder / "nbs", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    sys.stderr.write(done.stdout if done.returncode else "")
    failed = re.findall(r"^\s+(\w+\.ipynb)\s*$", done.stdout.partition("Tests Failed")[2], re.MULTILINE)
    count = len(list((folder / "nbs").glob("*.ipynb")))
    assert done.returncode == 0 or failed, "the notebooks could not be run"
    return {"notebooks": count, "notebooks_failed": failed, "notebook_seconds": round(time.perf_counter() - started)}


def run_tests(python: Path, folder: Path, workers: str) -> dict:
    "Run the plain tests: how many passed, failed or were left out."
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as beside:
        subprocess.run([python, "-m", "pytest", "-q", "-n", workers, "--dist", "loadfile", f"--junitxml={beside}/report.xml"], cwd=folder, check=False)
        cases = list(xml.etree.ElementTree.parse(f"{beside}/report.xml").iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"tests_passed": len(cases) - len(failed) - skipped, "tests_failed": failed, "tests_skipped": skipped, "test_seconds": round(time.perf_counter() - started)}


def main() -> int:
    "Set up, run, write the record."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("--python", default=sys.executable, help="the Python to use; the package admits 3.10 to 3.13")
    parser.add_argument("--folder", help="where the clone goes and stays; a temporary folder when not given")
    parser.add_argument("--workers", default="2", help="notebooks or files of tests at once")
    parser.add_argument("--out", default=str(ROOT / "results" / "reliability" / "versions.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary, "facekp").resolve()
        python = set_up(options.which, options.python, folder)
        os.environ["no_proxy"] = "127.0.0.1,localhost"
        row = {"which": options.which, **json.loads(subprocess.run([python, "-c", TOLD], capture_output=True, text=True, check=True).stdout)}
        python_version = row.pop("python")
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        row = {"which": row.pop("which"), "python": python_version, **run_notebooks(python, folder, options.workers), **run_tests(python, folder, options.workers),
               "date": date.today().isoformat(), "commit": commit, "versions": row}
    out = Path(options.out)
    record = json.loads(out.read_text()) if out.exists() else {}
    rows = [old for old in record.get("rows", []) if old["which"] != options.which] + [row]
    record = {"what": "every notebook and test with the oldest and with the newest versions that pyproject.toml admits", "rows": sorted(rows, key=lambda one: one["which"], reverse=True),
              "command": "python benchmarks/versions.py oldest --python python3.10; python benchmarks/versions.py newest --python python3.13"}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print({name: part for name, part in row.items() if name != "versions"})
    return bool(row["notebooks_failed"] or row["tests_failed"])


if __name__ == "__main__":
    sys.exit(main())
