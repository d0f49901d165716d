"""The page on reliability agrees with its records, and the scripts that make the records work."""

import json
import sys
from pathlib import Path

import pytest
from scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

import fault_table
import reliability_page

RECORDS = reliability_page.reliability_records()


def tool(name: str):
    "Return a script of tools/ as a module."
    return load_script(f"tools/{name}.py")


@pytest.mark.parametrize(("record", "parts"), [("reliability", "reliability"), ("load", "load")])
def test_every_part_was_measured_and_names_its_machine(record, parts, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    planned, measured = list(tool(parts).PARTS), RECORDS[record]
    assert sorted(measured) == sorted(planned), f"run tools/{parts}.py --part for what is missing"
    for name, part in measured.items():
        assert {*reliability_page.ABOUT} <= part.keys() and f"--part {name}" in part["command"], name
        assert part["machine"]["processor"] and part["versions"]["python"], name


def test_nothing_was_lost_and_enough_was_tried():
    rows = reliability_page.summary_rows(RECORDS)
    assert len(rows) >= 10 and all(row["how often"] > 0 and row["lost"] == 0 for row in rows), rows
    told, load = RECORDS["reliability"], RECORDS["load"]
    assert told["kills"]["kills"] >= 25 and told["kills"]["largest_difference_of_weights"] == 0
    assert told["fuzz"]["seconds_a_kind"] >= 60 and all(row["tried"] >= 100 for row in told["fuzz"]["rows"])
    assert told["workers"]["between_workers"] == 0 and told["workers"]["against_one_process"] < 1e-3 and "resume" in told["workers"]["survivor_said"]
    for engine in ("dask", "ray"):
        assert told[engine]["status"] == 0 and told[engine]["cells"] > told[engine]["cells_there_when_killed"] > 0, engine
    assert load["stream"]["faces"] == 1_000_000 and load["folder"]["pictures"] == 10_000 and load["folder"]["broken"] == 1
    for part in load.values():
        assert part["most_mb"] < 1.02 * part["memory_after_a_tenth_mb"], "memory is not flat"


def test_recorded_rules_were_tried_on_enough_random_cases_and_the_page_shows_them():
    parts, page = RECORDS["fuzz"], reliability_page.reliability_page()
    sys.path[:0] = [str(ROOT / "tests" / "faults")]
    import test_fuzz_rules

    assert parts and parts.keys() <= test_fuzz_rules.RULES.keys(), "remove records of rules that no longer exist"
    for part in parts.values():
        assert part["cases"] >= 300 and part["accepted"] + part["problems listed"] + part["refused"] == part["cases"] and len(part["code_sha256"]) == 64 and part["versions"]["numpy"]
        assert any(part["rule"] in line and f"{part['refused']:,}" in line for line in page.splitlines() if line.startswith("<tr>")), part["reader"]


def test_no_recorded_test_failed():
    amiss = [(file, row["test"]) for file, part in RECORDS["test_long"].items() for row in part["rows"] if row["outcome"] != "passed"]
    assert RECORDS["test_long"] and not amiss, amiss
    for which, part in RECORDS.get("versions", {}).items():  # the page lists what was not run
        assert not part["notebooks_failed"] and not part["tests_failed"], f"{which}: {[row for row in part['rows'] if row['failed']]}"


def test_threads_stayed_within_the_stated_bounds():
    told = RECORDS["reliability"]["threads"]
    for row in told["rows"]:
        first, second = row["threads"].split(" and ")
        assert row["largest_difference_of_weights"] == 0 or first != second, row
        assert row["largest_difference_of_a_point_px"] < told["bound_of_a_point_px"] and row["difference_of_rmse_px"] < told["bound_of_rmse_px"], row


def test_the_page_shows_the_numbers_of_the_records():
    page = reliability_page.reliability_page()
    told = RECORDS["reliability"]
    for number in (told["inputs"]["tried"], told["fuzz"]["tried"], told["faults"]["tried"], RECORDS["load"]["stream"]["faces"]):
        assert f">{number:,}<" in page, number
    for part in (*told.values(), *RECORDS["load"].values()):
        assert reliability_page.made_on(part) in page
    assert "No result of pip-audit is recorded" in page and all(heading in page for heading, _ in reliability_page.TOLD.values())


def test_a_part_that_lost_something_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(reliability_page, "RELIABILITY", tmp_path)
    assert reliability_page.reliability_records() == {}
    part = {"tried": 12_345, "lost": 7, "rows": [{"kind": "csv", "tried": 12_345, "lost": 7}], "seconds": 5, "date": "2026-01-02", "load_average_before": 0.5, "command": "run me",
            "machine": {"processor": "a slow one", "cores": 1, "memory_gb": 2, "system": "Linux"}, "versions": {"python": "3.10.1"}}
    (tmp_path / "reliability.json").write_text(json.dumps({"schema": 1, "parts": {"fuzz": {"data": None, **part}}}))
    page = reliability_page.reliability_page()
    assert reliability_page.summary_rows(reliability_page.reliability_records()) == [{"what was done": "randomly damaged files read", "how often": 12_345, "lost": 7}]
    for words in ("<td data-value=\"7\">7</td>", "12,345", "1 core of a slow one", "load average before it 0.5: `run me`"):
        assert words in page, words
    assert "Killed training runs" not in page


def test_rows_of_versions_are_counted_and_what_has_none_is_not_run(tmp_path):
    versions, made_with = tool("versions"), {"machine": {"processor": "one"}, "versions": {"numpy": "2.0"}}
    row = {"file": "tests/test_a.py", "passed": 3, "failed": 1, "skipped": 0, "seconds": 4, "date": "2026-01-02"}
    part = versions.put_into_record(tmp_path / "versions.json", "newest", [row], made_with, ["nbs/b.ipynb", "tests/test_a.py"])
    assert (part["tests_passed"], part["tests_failed"], part["not_run"]) == (3, 1, ["nbs/b.ipynb"])
    notebook = {**row, "file": "nbs/b.ipynb", "passed": 1, "failed": 0}
    part = versions.put_into_record(tmp_path / "versions.json", "newest", [notebook], made_with, ["nbs/b.ipynb", "tests/test_a.py"])
    assert (part["tests_failed"], part["notebooks_passed"], part["not_run"], len(part["rows"])) == (1, 1, [], 2)
    part = versions.put_into_record(tmp_path / "versions.json", "newest", [notebook], {**made_with, "versions": {"numpy": "3.0"}}, ["nbs/b.ipynb", "tests/test_a.py"])
    assert part["not_run"] == ["tests/test_a.py"], "the record contains rows of other versions"


def test_the_result_of_a_long_test_that_fails_is_written(tmp_path):
    long_tests = tool("long_tests")
    mark = "@pytest.mark." + "long"  # written in one piece, it would mark this file as one with long tests
    (tmp_path / "test_some.py").write_text(f"import pytest\n{mark}\n@pytest.mark.parametrize('one', [1, 2])\ndef test_some_thing(one):\n    assert one == 1\n"
                                           f"{mark}\ndef test_left_out():\n    pytest.skip('no time')\n")
    found = long_tests.in_all(long_tests.run_file(str(tmp_path / "test_some.py")))
    assert {name: found[name] for name in ("passed", "failed", "skipped")} == {"passed": 1, "failed": 1, "skipped": 1}
    assert [(row["test"], row["outcome"]) for row in found["rows"]] == [("some thing[1]", "passed"), ("some thing[2]", "failed"), ("left out", "skipped")]
    files = long_tests.files_with_long_tests()
    assert {"tests/faults/test_fuzz.py", "tests/faults/test_stop_anywhere.py"} <= set(files) and "tests/docs/test_reliability.py" not in files
    record = tmp_path / "test_long.json"
    record.write_text(json.dumps({"what": "some", "parts": {"test_gone": found, "test_fuzz": found}}))
    long_tests.forget_other_files(record, long_tests.files_with_long_tests())
    assert json.loads(record.read_text()) == {"what": "some", "parts": {"test_fuzz": found}}


FAULTS = fault_table.fault_tests()


@pytest.mark.parametrize("kind", fault_table.KINDS)
def test_each_kind_of_fault_has_a_test(kind):
    assert fault_table.tests_by_kind(FAULTS)[kind], f"no docstring of a test begins with 'kind: {kind} |': {fault_table.KINDS[kind]}"


def test_no_kind_of_fault_is_dropped():
    assert list(fault_table.KINDS) == list(range(1, 31)) and len(set(fault_table.KINDS.values())) == 30


def test_the_page_has_a_row_for_each_test_of_a_fault():
    page = reliability_page.reliability_page()
    assert page.count("<tbody>\n<tr><th scope=\"rowgroup\"") == len(fault_table.KINDS)
    for test in FAULTS:
        assert page.count(f"/{test.file.name}#L{test.line}\"") == len(test.kinds), test.name
        assert test.file.read_text().splitlines()[test.line - 1].startswith(f"def {test.name}(")


def test_a_row_is_made_from_the_docstring_of_a_test(tmp_path):
    (tmp_path / "test_one.py").write_text('def test_a_thing():\n    "kind: 2, 5 | what: a <b> | gets: one line"\n\n\ndef test_other():\n    "Another."\n\n\ndef helper():\n    "kind: 1 | what: x | gets: y"\n')
    tests = fault_table.fault_tests(tmp_path)
    assert [(test.kinds, test.what, test.gets, test.name, test.line) for test in tests] == [((2, 5), "a <b>", "one line", "test_a_thing", 1)]
    by_kind = fault_table.tests_by_kind(tests)
    assert by_kind[2] == by_kind[5] == tests and not by_kind[1]
    html = fault_table.fault_table(tests, tmp_path)
    assert html.count("<td>a &lt;b&gt;</td><td>one line</td>") == 2 and 'test_one.py#L1" title="test_one.py: test_a_thing">a thing</a>' in html
    assert "Labels in other units" in html and "Resuming another experiment" not in html


@pytest.mark.parametrize("text", ["kind: 2", "kind: 2 | what: x", "kind: 99 | what: x | gets: y", "kind: x | what: x | gets: y", "kind: 2 | gets: y | what: x"])
def test_a_docstring_that_lacks_a_part_is_refused(text):
    with pytest.raises(ValueError, match="expected 'kind: N"):
        fault_table.read_docstring(text)
