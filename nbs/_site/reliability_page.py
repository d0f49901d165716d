"""The page on reliability, made from the records in results/reliability/: what was tried to break the package, how often, and what was lost."""

from fault_table import fault_lines
from lessons import ROOT
from modelcard import _number, _shown, _words, read_record, table

RELIABILITY = ROOT / "results" / "reliability"
# what is told of each part: heading, and the sentence under it
TOLD = {
    "inputs": ("Malformed input", "Tables, archives, pictures, models, records, settings and videos that are not what they should be, each with the answer that it must get: one line that names "
               "the file and what would be right. Among them are decompression bombs, giant pictures, arrays that would have to be unpickled and models that carry code."),
    "fuzz": ("Files spoilt at random", "Good files with bits flipped and parts cut out, repeated or put in; each kind until its time is up or its number of files is reached. Refused means one line of the package's own; read means that "
             "the harm did not matter to the reader. An error of any other kind would end the run."),
    "faults": ("Faults put in", "Each is put in while the package writes, reads or fetches, and the files are looked at afterwards."),
    "kills": ("Kills of a training", "A training is killed with SIGKILL at random moments and in the middle of writing, started again with resume each time, and compared with the same training left in peace."),
    "course": ("Kills of a comparison", "A comparison of several trainings is killed and started again; at its end every record must be there once, the same as without kills."),
    "threads": ("The same again", "The same training with the same seed a second time, and with another number of threads. `1 and 1` means one thread both times. The tests fail beyond the bounds."),
    "workers": ("One training in two processes", "Two workers, each with half of every batch, against one process with the whole batch. Then one of them is killed in the third epoch and both are started again."),
    "scaling": ("A comparison on all cores", "The same trainings one after the other and a process a core. Both are timed on the machine below with whatever else ran there; processor time tells what the second "
                "process costs beside that: the most to be had on a quiet machine is the number of processes times the processor time of one over that of all. The start of the processes, "
                "each of which loads TensorFlow, is in it and weighs much on trainings of seconds; and where the load before it is near the number of cores or above, the seconds say little."),
    "dask": ("A comparison on Dask, one worker killed", "A scheduler and two workers on one machine; one of the workers is killed after the first records."),
    "ray": ("A comparison on Ray, one node killed", "A head and a second node on one machine; the second node is killed after the first records."),
    "stream": ("Faces streamed", "Faces drawn, augmented and put into batches as a training takes them, and let go of."),
    "folder": ("A folder of pictures", "`facekp predict` on a folder in which one picture is cut short: the others must all be in the table, and the broken one must be named."),
}
# the values of a part in words; what is not here is told by its own name
WORDS = {"tried": "tried", "lost": "lost, let in or answered otherwise than it must be", "seconds_a_kind": "seconds a kind, at most", "runs": "trainings that they were spread over",
         "largest_difference_of_weights": "largest difference of a weight", "cells": "trainings there in the end", "cells_planned": "trainings planned",
         "cells_there_when_killed": "trainings that were there at the kill", "same_records": "same records in all of them", "comparisons": "comparisons that they were spread over",
         "bound_of_a_point_px": "bound on the difference of a point, px", "bound_of_a_face_px": "bound on the difference of a face's error, px",
         "bound_of_rmse_px": "bound on the difference of RMSE, px", "between_workers": "largest difference of a weight or loss between the workers",
         "against_one_process": "from one process", "after_a_death": "after a death and a start with resume, from the training left in peace",
         "survivor_said": "what the worker that was left said", "survivor_status": "its exit status", "epochs_kept": "epochs that were not lost", "status": "exit status of the comparison",
         "processes": "processes", "seconds_with_one": "seconds with one process", "seconds_with_all": "seconds with all", "seconds_one_to_all": "how many times as fast",
         "processor_seconds_with_one": "processor seconds with one process", "processor_seconds_with_all": "processor seconds with all",
         "at_most_on_a_quiet_machine": "how many times as fast at most on a quiet machine", "drawn": "drawn anew", "copies": "augmented copies of each of them",
         "points": "labelled points on them", "memory_after_a_tenth_mb": "memory after a tenth of the work, MB", "memory_at_the_end_mb": "memory at the end, MB",
         "most_mb": "most memory between them, MB", "growth_mb": "growth, MB", "broken": "broken pictures named", "message": "what was said of it",
         "with_a_face": "pictures with a face found", "pictures_in_the_table": "pictures in the table"}
UNTOLD = ("engine", "log", "sha256_of_pictures")
ABOUT = ("seconds", "date", "load_average_before", "command", "data", "machine", "versions")
AUDIT = ("The development environment is locked in `.github/dev-lock.txt`; `tests/unit/test_versions.py` fails where the lock leaves the bounds of `pyproject.toml`. The workflow "
         "`weekly.yml` is set to run `pip-audit -r .github/dev-lock.txt --no-deps --disable-pip` on it every Monday, and to fail on a known fault.\n\n"
         "**No answer of pip-audit is recorded here.** It was started for these records on a machine that reaches packages but neither of the two lists of known faults: OSV's did not answer, and where "
         "PyPI's list would be, pip-audit was told that it knows none of the packages. So whether the lock is free of known faults is for the workflow to say, and this page does not claim it.\n\n"
         "The extras `cluster` and `ray` are not in the lock. Dask and Ray run whatever code reaches their ports, without asking who sends it; that is how they are made. Let them listen inside a "
         "private network only.")


def reliability_records() -> dict[str, dict]:
    "What was tried to break the package: the parts of each record by its name."
    found = {path.stem: read_record(path).get("parts") or {} for path in sorted(RELIABILITY.glob("*.json"))}
    return {name: parts for name, parts in found.items() if parts}


def summary_rows(records: dict[str, dict]) -> list[dict]:
    "What was done, how often, and what was lost by it: nothing, one hopes."
    told, load = records.get("reliability", {}), records.get("load", {})
    counted = [(told.get("inputs"), "malformed inputs given to the readers", "tried", lambda part: part["lost"]),
               (told.get("fuzz"), "files spoilt at random and read", "tried", lambda part: part["lost"]),
               (told.get("faults"), "faults put in while files are written, read or fetched", "tried", lambda part: part["lost"]),
               (told.get("kills"), "kills of a training that was started again", "kills", lambda part: part["records_that_differ"]),
               (told.get("course"), "kills of a comparison that was started again", "kills", lambda part: 0 if part["same_records"] else part["cells"]),
               (told.get("workers"), "deaths of one of two workers of a training", "workers_killed", lambda part: int(part["after_a_death"] > 0)),
               *((told.get(engine), f"workers of {engine.capitalize()} killed under a comparison", "workers_killed", lambda part: part["cells_planned"] - part["cells"]) for engine in ("dask", "ray")),
               (load.get("stream"), "faces streamed through the input of a training", "faces", lambda part: part["faces"] - part["points"] // 15),  # drawn faces have all points
               (load.get("folder"), "pictures predicted, a broken one among them", "pictures", lambda part: part["lost"])]
    rows = [{"what was done": words, "how often": part[often], "lost": lost(part)} for part, words, often, lost in counted if part]
    rows += [{"what was done": "tests that take minutes, by make test-long", "how often": sum(part["passed"] + part["failed"] for part in records["test_long"].values()),
              "lost": sum(part["failed"] for part in records["test_long"].values())}] if "test_long" in records else []
    return rows + [{"what was done": f"{kind} with the {which} versions", "how often": part[f"{kind}_passed"] + part[f"{kind}_failed"], "lost": part[f"{kind}_failed"]}
                   for which, part in sorted(records.get("versions", {}).items(), reverse=True) for kind in ("notebooks", "tests")]


def machine_of(part: dict) -> str:
    "The machine and the versions of a part."
    machine, versions = part["machine"], part["versions"]
    packages = "".join(f", {name} {versions[key]}" for key, name in (("tensorflow", "TensorFlow"), ("keras", "Keras"), ("numpy", "NumPy")) if key in versions)
    return f"{machine['cores']} core{'s' * (machine['cores'] != 1)} of {machine['processor']}, {machine['memory_gb']} GB, {machine['system']}; Python {versions['python']}{packages}"


def made_on(part: dict) -> str:
    "On what a part was measured, when, for how long, and how to do it again."
    busy = part.get("load_average_before")
    load = f"; load average before it {busy}" if busy is not None else ""
    return f"{part['date']}, {part['seconds']:,} s on {machine_of(part)}{load}: `{part['command']}`"


def facts(part: dict) -> list[str]:
    "The plain values of a part as a list."
    plain = {key: value for key, value in part.items() if key not in (*ABOUT, *UNTOLD) and (isinstance(value, (str, bool)) or _number(value))}
    return [f"- {WORDS.get(key, _words(key))}: {_fact(key, value)}" for key, value in plain.items()]


def _fact(key: str, value: object) -> str:
    "A value; a difference of nothing is told from one that is rounded to it."
    return f"{value:.1f}" if key.endswith("_mb") else "exactly 0" if value == 0.0 and isinstance(value, float) else _shown(key, value)


def part_lines(name: str, part: dict) -> list[str]:
    "A part: what was done, its values and rows, and on what it was measured."
    heading, sentence = TOLD.get(name, (_words(name).capitalize(), ""))
    rows = part.get("rows") or []
    return [f"## {heading}", "", *([sentence, ""] if sentence else []), *facts(part), "", *(table(rows, _words(next(iter(rows[0]))), heading) if rows else []), f"Measured {made_on(part)}", ""]


def long_lines(parts: dict[str, dict]) -> list[str]:
    "The last result of make test-long: a row a file, and on what each was run."
    rows = [{"file": name, **{key: part[key] for key in ("passed", "failed", "skipped", "seconds", "date")}} for name, part in sorted(parts.items())]
    amiss = [f"- {name}: {row['test']} {row['outcome']}" for name, part in sorted(parts.items()) for row in part["rows"] if row["outcome"] != "passed"]
    machines = sorted(set(map(machine_of, parts.values())))
    return ["## The long tests", "", "The last result of `make test-long`, one row a file; files may be run one by one with `python tools/long_tests.py FILE`.", "",
            *table(rows, "file", "The long tests"), *amiss, "", "Run on " + "; and on ".join(machines) + ".", ""]


def fuzz_lines(parts: dict[str, dict]) -> list[str]:
    "Rules tried on random cases whose right answer is known: a row a rule, and on what they were tried."
    rows = [{"tried": name.replace("_", " "), "rule": part["rule"], "cases": part["cases"], "accepted, and right": part["accepted"],
             "problems listed": part["problems listed"], "refused in one line": part["refused"], "otherwise": part["cases"] - part["accepted"] - part["problems listed"] - part["refused"],
             "seconds": part["seconds"]} for name, part in parts.items()]
    machines, days = sorted(set(map(machine_of, parts.values()))), sorted({part["date"] for part in parts.values()})
    codes = sorted({part["code_sha256"][:12] for part in parts.values()})
    return ["## Rules on random cases", "", "Labels in random units, arrays of random ranges and layouts, tables rewritten or damaged, folders of random contents, and runs resumed with random changes. Each case "
            "has a known answer: the reader must give the right result or refuse in one line. Files that are damaged at random may be read or refused.", "",
            *table(rows, "tried", "Rules on random cases"), "",
            f"Tried on {' and '.join(days)} with seed {next(iter(parts.values()))['seed']} on {'; and on '.join(machines)}; SHA-256 of the code: {', '.join(codes)}. "
            "`python tools/fuzz.py` repeats it.", ""]


def version_lines(parts: dict[str, dict]) -> list[str]:
    "What passed with the oldest and with the newest versions."
    lines = ["## Oldest and newest versions", "", "Notebooks and files of tests in an environment of the lowest versions that `pyproject.toml` allows, and in one of the newest there are. The "
             "workflow `weekly.yml` is set to run all of them with both every Monday.", "", *([ "Not recorded yet: " + ", ".join(sorted({"oldest", "newest"} - parts.keys())) + ".", ""] if len(parts) < 2 else [])]
    for which, part in sorted(parts.items(), reverse=True):
        lines += [f"### {which.capitalize()}", "", f"Notebooks: {_passed(part, 'notebooks')}. Tests: {_passed(part, 'tests')}.", "",
                  *([f"Not run: {', '.join(part['not_run'])}.", ""] if part["not_run"] else []),
                  *(f"- {row['file']}: {', '.join(row['failures'])} failed" for row in part["rows"] if row.get("failures")), "",
                  *table(part["rows"], "file", f"The {which} versions"), f"Measured {made_on(part)}", ""]
    return lines


def _passed(part: dict, kind: str) -> str:
    "How many passed, failed and were left out."
    return ", ".join(f"{part[f'{kind}_{outcome}']} {word}" for outcome, word in (("passed", "passed"), ("failed", "failed"), ("skipped", "left out")))


def reliability_page() -> str:
    "The page that says what was tried to break the package, and what was lost."
    records = reliability_records()
    lines = ["# Reliability", "", "What was done to the package on purpose, and what came of it. All numbers are read from the records in `results/reliability/`; each part names the machine, "
             "the versions and the day it was measured with, since not all were made on one.", "", *table(summary_rows(records), "what was done", "Summary"), "", *fault_lines()]
    for name in ("reliability", "load"):
        for part in sorted(records.get(name, {}), key=list(TOLD).index):
            lines += part_lines(part, records[name][part])
    lines += fuzz_lines(records["fuzz"]) if "fuzz" in records else []
    lines += long_lines(records["test_long"]) if "test_long" in records else []
    lines += version_lines(records.get("versions", {}))
    return "\n".join([*lines, "## Dependencies", "", AUDIT, ""])
