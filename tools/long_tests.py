"""Run the tests that take minutes, and record their results.

    python tools/long_tests.py [tests/faults/test_fuzz.py ...] [--out results/reliability/test_long.json]

`make test-long` runs all files. Single files, or single tests such as tests/faults/test_fuzz.py::NAME, can be given instead. Each file is a part of the
record with its own machine and versions. Parts of other files are kept, and so are the other tests of a file if they ran on the same machine with the
same versions. Results are read from pytest's report (JUnit XML). The exit status is 1 if a test failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

from parts import load_average, write_part

from facekp.files import write_json

ROOT = Path(__file__).resolve().parent.parent
WHAT = "tests that take minutes, by file"


def files_with_long_tests() -> list[str]:
    "Return the files with at least one test that is marked as long."
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.long" in path.read_text(encoding="utf-8")]


def forget_other_files(out: Path, files: list[str]) -> None:
    "Remove files that no longer have long tests from the record."
    if out.exists():
        record = json.loads(out.read_text(encoding="utf-8"))
        kept = {name: part for name, part in record["parts"].items() if name in [Path(path).stem for path in files]}
        if kept != record["parts"]:
            write_json(out, {**record, "parts": kept})


def run_file(path: str) -> list[dict]:
    "Run the long tests of one file, or one of them; return outcome and seconds of each."
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pytest", "-m", "long", f"--junitxml={folder}/report.xml", path], cwd=ROOT, check=False,
                       env={**os.environ, "no_proxy": "127.0.0.1,localhost"})
        return [describe_case(case) for case in xml.etree.ElementTree.parse(f"{folder}/report.xml").iter("testcase")]


def rows_kept(out: Path, path: str, rows: list[dict]) -> list[dict]:
    "Return the recorded rows of a file's other tests, if only one test is run and machine and versions are the same."
    from facekp.experiments.record import describe_machine, describe_versions

    before = json.loads(out.read_text(encoding="utf-8"))["parts"].get(stem(path), {}) if "::" in path and out.exists() else {}
    same = before.get("machine") == describe_machine() and before.get("versions") == describe_versions()
    return [row for row in before.get("rows", []) if row["test"] not in {row["test"] for row in rows}] if same else []


def stem(path: str) -> str:
    "Return the name of a part of the record: the file name without its extension."
    return Path(path.partition("::")[0]).stem


def in_all(rows: list[dict]) -> dict:
    "Return the numbers of passed, failed and skipped tests, followed by the rows."
    return {**{outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("passed", "failed", "skipped")}, "rows": rows}


def describe_case(case: xml.etree.ElementTree.Element) -> dict:
    "Return name, outcome and seconds of one test in the report."
    amiss = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
    outcome = "passed" if not amiss else "skipped" if amiss == ["skipped"] else "failed"
    return {"test": case.get("name").removeprefix("test_").replace("_", " "), "outcome": outcome, "seconds": round(float(case.get("time")), 1)}


def main() -> int:
    "Run the test files and write the record after each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="test files, relative to the repository; default: all files with long tests")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "test_long.json")
    options = parser.parse_args()
    files, failed = files_with_long_tests(), 0
    forget_other_files(options.out, files)
    for path in options.files or files:
        busy, rows = load_average(), run_file(path)
        failed += sum(row["outcome"] == "failed" for row in rows)
        rows = [*rows_kept(options.out, path, rows), *rows]
        part = write_part(options.out, WHAT, stem(path), in_all(rows), sum(row["seconds"] for row in rows), busy, f"python tools/long_tests.py {path.partition('::')[0]}")
        print(path, {name: part[name] for name in ("passed", "failed", "skipped", "seconds")}, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
