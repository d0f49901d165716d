"""Test the rules of tests/faults/test_fuzz_rules.py on random cases, and record the outcomes.

    python tools/fuzz.py [--rule NAME ...] [--cases N] [--out results/reliability/fuzz.json]

Rules: units of labels, value ranges, tables of other programs, folder contents, resume with changed settings. Each case has a known right answer; a wrong
result or an unexpected error stops the script, so a row in the record means that there was none. The record is written after each rule.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from parts import load_average, write_part

ROOT = Path(__file__).resolve().parent.parent
WHAT = "rules tested on random cases with a known answer"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "faults")]
MEMORY = Path("/dev/shm")  # if present, folders and runs are written there, which spares the disk


def hash_code() -> str:
    "Return the SHA-256 of the package's Python files and of the rules."
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "facekp").rglob("*.py"), ROOT / "tests" / "faults" / "test_fuzz_rules.py"]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    "Test the rules and write the record after each."
    import test_fuzz_rules

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", nargs="+", choices=test_fuzz_rules.RULES, default=list(test_fuzz_rules.RULES))
    parser.add_argument("--cases", type=int, help="number of cases per rule (default: stated by the rule, 20,000 for most)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "fuzz.json")
    options = parser.parse_args()
    for name in options.rule:
        busy, started = load_average(), time.perf_counter()
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            row = test_fuzz_rules.fuzz_rule(name, options.cases or test_fuzz_rules.RULES[name][2], Path(folder))
        print(row, flush=True)
        write_part(options.out, WHAT, name, {**row, "code_sha256": hash_code()}, time.perf_counter() - started, busy, f"python tools/fuzz.py --rule {name}")


if __name__ == "__main__":
    main()
