"""Run the tests that take minutes, and write down what came of them.

    python tools/long_tests.py [tests/faults/test_fuzz.py ...] [--out results/reliability/test_long.json]

`make test-long` calls this for all files. The files may also be given one by one, or single tests as tests/faults/test_fuzz.py::NAME: each file is a part of
the record with its own machine and versions, and the others are kept, as are the other tests of a file that ran on the same machine with the same
versions. pytest's own report (JUnit XML) is what is counted. The exit status is 1 where a test failed.
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
WHAT = "the tests that take minutes, file by file"


def files_with_long_tests() -> list[str]:
    "The files that mark a test as long."
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.long" in path.read_text(encoding="utf-8")]


def forget_other_files(out: Path, files: list[str]) -> None:
    "Take files that have no long tests any more out of the record."
    if out.exists():
        record = json.loads(out.read_text(encoding="utf-8"))
        kept = {name: part for name, part in record["parts"].items() if name in [Path(path).stem for path in files]}
        if kept != record["parts"]:
            write_json(out, {**record, "parts": kept})


def run_file(path: str) -> list[dict]:
    "Run the long tests of one file, or one of them: what became of each, with its seconds."
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pytest", "-m", "long", f"--junitxml={folder}/report.xml", path], cwd=ROOT, check=False,
                       env={**os.environ, "no_proxy": "127.0.0.1,localhost"})
        return [told(case) for case in xml.etree.ElementTree.parse(f"{folder}/report.xml").iter("testcase")]


def rows_kept(out: Path, path: str, rows: list[dict]) -> list[dict]:
    "The rows in the record of other tests of the same file, where one test is run and they were run on the same machine with the same versions."
    from facekp.experiments.record import describe_machine, describe_versions

    before = json.loads(out.read_text(encoding="utf-8"))["parts"].get(stem(path), {}) if "::" in path and out.exists() else {}
    same = before.get("machine") == describe_machine() and before.get("versions") == describe_versions()
    return [row for row in before.get("rows", []) if row["test"] not in {row["test"] for row in rows}] if same else []


def stem(path: str) -> str:
    "The name of a part: of the file without its ending."
    return Path(path.partition("::")[0]).stem


def in_all(rows: list[dict]) -> dict:
    "How many passed, failed or were left out, before the rows."
    return {**{outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("passed", "failed", "skipped")}, "rows": rows}


def told(case: xml.etree.ElementTree.Element) -> dict:
    "What the report says of one test."
    amiss = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
    outcome = "passed" if not amiss else "skipped" if amiss == ["skipped"] else "failed"
    return {"test": case.get("name").removeprefix("test_").replace("_", " "), "outcome": outcome, "seconds": round(float(case.get("time")), 1)}


def main() -> int:
    "Run the files and write the record after each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="files of tests, from the repository's root; all that have long ones when not given")
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
