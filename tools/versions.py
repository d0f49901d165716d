"""Run every notebook and test with the oldest or the newest versions that pyproject.toml allows, and record the results.

    python tools/versions.py oldest --python python3.10
    python tools/versions.py newest --python python3.13
    python tools/versions.py newest --python python3.13 --folder somewhere nbs/library/geometry.ipynb tests/unit/test_data.py

Clones the last commit into --folder and creates an environment there (half an hour with the tests; in this clone, only the record is changed).
oldest: uv resolves the package and its extra `dev` to the lower bounds (`--resolution lowest-direct`; indirect dependencies are as new as possible).
newest: pip installs the newest versions. Needs only Python. The record is results/reliability/versions.json, with one part for each of the two, and one
row with day and commit per notebook or test file. Rows of other files are kept as long as the versions are the same; files without a row are listed as not run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Iterable
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOLD = """
import importlib.metadata, json, platform, re, sys
names = {re.split(r"[ <>=!~;\\[(]", told)[0] for told in importlib.metadata.requires("facekp") if "extra ==" not in told or "train" in told or "dev" in told or "docs" in told or "deploy" in told}
found = {}
for name in sorted(names - {"facekp"}):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
from facekp.experiments.record import describe_machine
print(json.dumps({"machine": describe_machine(), "versions": {"python": platform.python_version(), **found}}))
"""
COMMAND = {"oldest": "python tools/versions.py oldest --python python3.10", "newest": "python tools/versions.py newest --python python3.13"}


def set_up(which: str, python: str, folder: Path) -> Path:
    "Clone the repository, create the environment and install; return its Python."
    there = (folder / ".git").exists()
    if there:  # notebooks rewrite the images in photos/, which would block the checkout
        subprocess.run(["git", "-C", folder, "checkout", "--quiet", "--", "."], check=True)
    subprocess.run(["git", "-C", folder, "pull", "--quiet", "--ff-only"] if there else ["git", "clone", "--quiet", ROOT, folder], check=True)
    inside = folder / ".venv" / "bin" / "python"
    if (folder / ".venv" / "whole").exists():
        return inside
    subprocess.run([python, "-m", "venv", folder / ".venv"], check=True)
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if which == "oldest":
        subprocess.run([*install, "uv"], check=True)
        subprocess.run([inside, "-m", "uv", "pip", "install", "--quiet", "--python", inside, "--resolution", "lowest-direct", "-e", ".[dev]"], cwd=folder, check=True)
    else:
        subprocess.run([*install, "-e", ".[dev]"], cwd=folder, check=True)
    (folder / ".venv" / "whole").touch()
    subprocess.run([inside, "nbs/_site/browser.py"], cwd=folder, check=True)
    return inside


def all_files(folder: Path) -> list[str]:
    "List all notebooks and test files."
    return [str(path.relative_to(folder)) for pattern in ("nbs/index.ipynb", "nbs/course/*.ipynb", "nbs/library/**/*.ipynb", "tests/*/test_*.py") for path in sorted(folder.glob(pattern))]


def run_notebook(python: Path, folder: Path, name: str) -> dict:
    "Run a notebook as a test."
    started = time.perf_counter()
    done = subprocess.run([python.parent / "nbdev-test", Path(name).relative_to("nbs").as_posix(), "--n-workers", "0", "--do-print"], cwd=folder / "nbs", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    sys.stderr.write(done.stdout if done.returncode else "")
    assert done.returncode or "Starting" in done.stdout, f"{name} was not run:\n{done.stdout}"
    return {"file": name, "passed": int(not done.returncode), "failed": int(done.returncode > 0), "skipped": 0, "seconds": round(time.perf_counter() - started)}


def run_tests(python: Path, folder: Path, names: list[str], workers: str) -> list[dict]:
    "Run test files in parallel; return the numbers of passed, failed and skipped tests of each."
    with tempfile.TemporaryDirectory() as beside:
        subprocess.run([python, "-m", "pytest", "-q", "-m", "not long", "-n", workers, "--dist", "loadfile", f"--junitxml={beside}/report.xml", *names], cwd=folder, check=False)
        cases = list(xml.etree.ElementTree.parse(f"{beside}/report.xml").iter("testcase"))
    return [told_of_tests(name, [case for case in cases if Path(name).stem in (case.get("classname") or case.get("name")).split(".")]) for name in names]


def told_of_tests(name: str, cases: list[xml.etree.ElementTree.Element]) -> dict:
    "Summarise pytest's report on one file, with the names of failed tests. A file without any test could not be imported."
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"file": name, "passed": len(cases) - len(failed) - skipped, "failed": len(failed) if cases else 1, "skipped": skipped,
            "seconds": round(sum(float(case.get("time")) for case in cases)), **({"failures": failed} if failed else {})}


def run_all(python: Path, folder: Path, names: list[str], workers: str) -> Iterable[list[dict]]:
    "Run notebooks one by one, then the tests; yield a few rows at a time."
    tests = [name for name in names if name.endswith(".py")]
    for name in names:
        if name.endswith(".ipynb"):
            yield [run_notebook(python, folder, name)]
    if tests:
        yield run_tests(python, folder, tests, workers)


def put_into_record(out: Path, which: str, rows: list[dict], made_with: dict, everything: list[str]) -> dict:
    "Write rows into the record; keep those of other files if their versions are the same. Return the part that was written."
    record = json.loads(out.read_text()) if out.exists() else {}
    before = record.get("parts", {}).get(which, {})
    names = {row["file"] for row in rows}
    kept = [row for row in before.get("rows", []) if row["file"] not in names and row["file"] in everything] if before.get("versions") == made_with["versions"] else []
    rows = sorted([*kept, *rows], key=lambda row: everything.index(row["file"]))
    counts = {f"{kind}_{outcome}": sum(row[outcome] for row in rows if row["file"].endswith(ending))
              for kind, ending in (("notebooks", ".ipynb"), ("tests", ".py")) for outcome in ("passed", "failed", "skipped")}
    part = {**counts, "not_run": [name for name in everything if name not in {row["file"] for row in rows}], "rows": rows,
            "seconds": sum(row["seconds"] for row in rows), "date": max(row["date"] for row in rows), "command": COMMAND[which], "data": None, **made_with}
    record = {"schema": 1, "what": "every notebook and test with the oldest and with the newest versions that pyproject.toml allows", "parts": {**record.get("parts", {}), which: part}}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    return part


def main() -> int:
    "Set up the environment, run the files, and write the record after each step."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("files", nargs="*", help="notebooks and test files, relative to the repository; default: all")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter; the package supports 3.10 to 3.13")
    parser.add_argument("--folder", help="folder of the clone, which is kept; default: a temporary folder")
    parser.add_argument("--workers", default="2", help="test files that run in parallel")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "versions.json")
    options = parser.parse_intermixed_args()  # allows files after options
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary, "facekp").resolve()
        python = set_up(options.which, options.python, folder)
        os.environ["no_proxy"] = "127.0.0.1,localhost"
        made_with = json.loads(subprocess.run([python, "-c", TOLD], capture_output=True, text=True, check=True).stdout)
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        everything, failed = all_files(folder), 0
        for rows in run_all(python, folder, options.files or everything, options.workers):
            rows = [{**row, "date": date.today().isoformat(), "commit": commit} for row in rows]
            part = put_into_record(options.out, options.which, rows, made_with, everything)
            failed += sum(row["failed"] for row in rows)
            print(rows, {name: value for name, value in part.items() if isinstance(value, int)}, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
