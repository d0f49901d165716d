"""The page on reliability, made from the records in results/reliability/: attempts to break the package, their number, and what was lost."""

from fault_table import fault_lines
from lessons import ROOT
from modelcard import _number, _shown, _words, read_record, table

RELIABILITY = ROOT / "results" / "reliability"
# heading of each part, and the sentence under it
TOLD = {
    "inputs": ("Malformed input", "Tables, archives, images, models, records, settings and videos with a defect. Each must raise a one-line error that names the file and states what was expected. "
               "Among them are decompression bombs, giant images, arrays that would have to be unpickled, and models that contain code."),
    "fuzz": ("Randomly damaged files", "Valid files with flipped bits and with parts removed, repeated or inserted. Each kind runs until its time is up or its number of files is reached. *Refused* means that the "
             "package raised a one-line error; *read* means that the damage did not matter to the reader. Any other error would end the run."),
    "faults": ("Injected faults", "Each fault is injected while the package writes, reads or downloads a file. The files are checked afterwards."),
    "kills": ("Killed training runs", "A training run is killed with SIGKILL at random moments and in the middle of writing. It is resumed each time and compared with the same run without interruptions."),
    "course": ("Killed comparisons", "A comparison of several training runs is killed and restarted. At the end, every record must exist exactly once and equal the record of an uninterrupted run."),
    "threads": ("Repeated runs", "The same training run with the same seed is repeated, also with another number of threads. `1 and 1` means one thread both times. The tests fail if a difference exceeds its bound."),
    "workers": ("One training run in two processes", "Two workers, each with half of every batch, are compared with one process with the whole batch. Then one worker is killed in the third epoch and both are restarted."),
    "scaling": ("A comparison on all cores", "The same training runs one after the other, and with one process per core. Both were timed on the machine below while other programs ran. The processor time shows what the second "
                "process costs: on a quiet machine, the speed-up is at most the number of processes times the processor time with one process over that with all. The times include the start of the processes, "
                "each of which loads TensorFlow; this matters for runs of a few seconds. If the load average before the measurement is near or above the number of cores, the seconds mean little."),
    "dask": ("A comparison on Dask, one worker killed", "A scheduler and two workers on one machine; one of the workers is killed after the first records."),
    "ray": ("A comparison on Ray, one node killed", "A head and a second node on one machine; the second node is killed after the first records."),
    "stream": ("Streamed faces", "Faces are rendered, augmented, put into batches as in training, and discarded."),
    "folder": ("A folder of images", "`facekp predict` on a folder in which one image is truncated. The table must contain all others, and the error must name the broken image."),
}
# the values of a part in words; a value that is not listed here is shown under its own name
WORDS = {"tried": "cases", "lost": "failures (data lost, input accepted, or another error than required)", "seconds_a_kind": "seconds per kind, at most", "runs": "training runs that were killed",
         "largest_difference_of_weights": "largest difference of a weight", "cells": "training runs at the end", "cells_planned": "training runs planned",
         "cells_there_when_killed": "training runs finished before the kill", "same_records": "same records in all comparisons", "comparisons": "comparisons that were killed",
         "bound_of_a_point_px": "bound on the difference of a point, px", "bound_of_a_face_px": "bound on the difference of a face's error, px",
         "bound_of_rmse_px": "bound on the difference of RMSE, px", "between_workers": "largest difference of a weight or loss between the workers",
         "against_one_process": "largest difference from one process", "after_a_death": "largest difference from the uninterrupted run, after a kill and a restart with resume",
         "survivor_said": "error message of the other worker", "survivor_status": "exit status of the other worker", "epochs_kept": "epochs kept", "status": "exit status of the comparison",
         "processes": "processes", "seconds_with_one": "seconds with one process", "seconds_with_all": "seconds with all processes", "seconds_one_to_all": "speed-up",
         "processor_seconds_with_one": "processor seconds with one process", "processor_seconds_with_all": "processor seconds with all processes",
         "at_most_on_a_quiet_machine": "largest possible speed-up on a quiet machine", "drawn": "rendered faces", "copies": "augmented copies of each rendered face",
         "points": "labelled points", "memory_after_a_tenth_mb": "memory after a tenth of the work, MB", "memory_at_the_end_mb": "memory at the end, MB",
         "most_mb": "peak memory in between, MB", "growth_mb": "growth, MB", "broken": "broken images named in an error", "message": "error message",
         "faces_a_second": "faces per second", "pictures_a_second": "images per second", "with_a_face": "images in which a face was found", "pictures": "images", "pictures_in_the_table": "images in the table"}
UNTOLD = ("engine", "log", "sha256_of_pictures")
ABOUT = ("seconds", "date", "load_average_before", "command", "data", "machine", "versions")
AUDIT = ("The development environment is locked in `.github/dev-lock.txt`; `tests/unit/test_versions.py` fails if a locked version is outside the bounds of `pyproject.toml`. The workflow "
         "`weekly.yml` is scheduled to run `pip-audit -r .github/dev-lock.txt --no-deps --disable-pip` on it every Monday and to fail on a known vulnerability.\n\n"
         "**No result of pip-audit is recorded here.** The machine on which these records were made has no access to the two vulnerability databases, OSV and PyPI. This page therefore makes no claim "
         "about known vulnerabilities in the lock; the workflow checks it.\n\n"
         "The extras `cluster` and `ray` are not in the lock. Dask and Ray run any code that reaches their ports, without authentication. Use them inside a private network only.")


def reliability_records() -> dict[str, dict]:
    "Return the parts of each record by its name."
    found = {path.stem: read_record(path).get("parts") or {} for path in sorted(RELIABILITY.glob("*.json"))}
    return {name: parts for name, parts in found.items() if parts}


def summary_rows(records: dict[str, dict]) -> list[dict]:
    "Return one row per kind of test: how often it was done, and what was lost."
    told, load = records.get("reliability", {}), records.get("load", {})
    counted = [(told.get("inputs"), "malformed inputs read", "tried", lambda part: part["lost"]),
               (told.get("fuzz"), "randomly damaged files read", "tried", lambda part: part["lost"]),
               (told.get("faults"), "faults injected while files are written, read or downloaded", "tried", lambda part: part["lost"]),
               (told.get("kills"), "kills of a training run that was then resumed", "kills", lambda part: part["records_that_differ"]),
               (told.get("course"), "kills of a comparison that was then restarted", "kills", lambda part: 0 if part["same_records"] else part["cells"]),
               (told.get("workers"), "kills of one of two workers of a training run", "workers_killed", lambda part: int(part["after_a_death"] > 0)),
               *((told.get(engine), f"{engine.capitalize()} workers killed during a comparison", "workers_killed", lambda part: part["cells_planned"] - part["cells"]) for engine in ("dask", "ray")),
               (load.get("stream"), "faces streamed through the input of training", "faces", lambda part: part["faces"] - part["points"] // 15),  # rendered faces have all points
               (load.get("folder"), "images predicted, one of them broken", "pictures", lambda part: part["lost"])]
    rows = [{"what was done": words, "how often": part[often], "lost": lost(part)} for part, words, often, lost in counted if part]
    rows += [{"what was done": "long tests (make test-long)", "how often": sum(part["passed"] + part["failed"] for part in records["test_long"].values()),
              "lost": sum(part["failed"] for part in records["test_long"].values())}] if "test_long" in records else []
    return rows + [{"what was done": f"{kind} with the {which} versions", "how often": part[f"{kind}_passed"] + part[f"{kind}_failed"], "lost": part[f"{kind}_failed"]}
                   for which, part in sorted(records.get("versions", {}).items(), reverse=True) for kind in ("notebooks", "tests")]


def machine_of(part: dict) -> str:
    "Return the machine and the versions of a part."
    machine, versions = part["machine"], part["versions"]
    packages = "".join(f", {name} {versions[key]}" for key, name in (("tensorflow", "TensorFlow"), ("keras", "Keras"), ("numpy", "NumPy")) if key in versions)
    return f"{machine['cores']} core{'s' * (machine['cores'] != 1)} of {machine['processor']}, {machine['memory_gb']} GB, {machine['system']}; Python {versions['python']}{packages}"


def made_on(part: dict) -> str:
    "Return the date, duration, machine and command of a part."
    busy = part.get("load_average_before")
    load = f"; load average before it {busy}" if busy is not None else ""
    return f"{part['date']}, {part['seconds']:,} s on {machine_of(part)}{load}: `{part['command']}`"


def facts(part: dict) -> list[str]:
    "Return the plain values of a part as a list."
    plain = {key: value for key, value in part.items() if key not in (*ABOUT, *UNTOLD) and (isinstance(value, (str, bool)) or _number(value))}
    return [f"- {WORDS.get(key, _words(key))}: {_fact(key, value)}" for key, value in plain.items()]


def _fact(key: str, value: object) -> str:
    "Return a value in words; an exact zero is distinguished from a rounded one."
    return f"{value:.1f}" if key.endswith("_mb") else "exactly 0" if value == 0.0 and isinstance(value, float) else _shown(key, value)


def part_lines(name: str, part: dict) -> list[str]:
    "Return the section of a part: its description, values, rows and machine."
    heading, sentence = TOLD.get(name, (_words(name).capitalize(), ""))
    rows = part.get("rows") or []
    return [f"## {heading}", "", *([sentence, ""] if sentence else []), *facts(part), "", *(table(rows, _words(next(iter(rows[0]))), heading) if rows else []), f"Measured {made_on(part)}", ""]


def long_lines(parts: dict[str, dict]) -> list[str]:
    "Return the section on the long tests, one row per file."
    rows = [{"file": name, **{key: part[key] for key in ("passed", "failed", "skipped", "seconds", "date")}} for name, part in sorted(parts.items())]
    amiss = [f"- {name}: {row['test']} {row['outcome']}" for name, part in sorted(parts.items()) for row in part["rows"] if row["outcome"] != "passed"]
    machines = sorted(set(map(machine_of, parts.values())))
    return ["## Long tests", "", "The latest result of `make test-long`, one row per file. `python tools/long_tests.py FILE` runs a single file.", "",
            *table(rows, "file", "Long tests"), *amiss, "", "Run on " + "; and on ".join(machines) + ".", ""]


def fuzz_lines(parts: dict[str, dict]) -> list[str]:
    "Return the section on rules tested on random cases, one row per rule."
    rows = [{"subject": name.replace("_", " "), "rule": part["rule"], "cases": part["cases"], "accepted, right result": part["accepted"],
             "problems listed": part["problems listed"], "refused in one line": part["refused"], "other outcome": part["cases"] - part["accepted"] - part["problems listed"] - part["refused"],
             "seconds": part["seconds"]} for name, part in parts.items()]
    machines, days = sorted(set(map(machine_of, parts.values()))), sorted({part["date"] for part in parts.values()})
    codes = sorted({part["code_sha256"][:12] for part in parts.values()})
    return ["## Rules on random cases", "", "Labels in random units, arrays of random ranges and layouts, rewritten or damaged tables, folders of random contents, and runs resumed with random changes. Each case "
            "has a known answer: the reader must return the right result or refuse with a one-line error. Randomly damaged files may be read or refused.", "",
            *table(rows, "subject", "Rules on random cases"), "",
            f"Tested on {' and '.join(days)} with seed {next(iter(parts.values()))['seed']} on {'; and on '.join(machines)}; SHA-256 of the code: {', '.join(codes)}. "
            "`python tools/fuzz.py` repeats the test.", ""]


def version_lines(parts: dict[str, dict]) -> list[str]:
    "Return the section on the oldest and the newest versions."
    lines = ["## Oldest and newest versions", "", "Notebooks and test files were run with the lowest versions that `pyproject.toml` allows and with the newest available versions. The "
             "workflow `weekly.yml` is scheduled to run all of them with both sets every Monday.", "", *([ "Not recorded yet: " + ", ".join(sorted({"oldest", "newest"} - parts.keys())) + ".", ""] if len(parts) < 2 else [])]
    for which, part in sorted(parts.items(), reverse=True):
        lines += [f"### {which.capitalize()}", "", f"Notebooks: {_passed(part, 'notebooks')}. Tests: {_passed(part, 'tests')}.", "",
                  *([f"Not run: {', '.join(part['not_run'])}.", ""] if part["not_run"] else []),
                  *(f"- {row['file']}: {', '.join(row['failures'])} failed" for row in part["rows"] if row.get("failures")), "",
                  *table(part["rows"], "file", f"The {which} versions"), f"Measured {made_on(part)}", ""]
    return lines


def _passed(part: dict, kind: str) -> str:
    "Return how many passed, failed and were skipped."
    return ", ".join(f"{part[f'{kind}_{outcome}']} {word}" for outcome, word in (("passed", "passed"), ("failed", "failed"), ("skipped", "skipped")))


def reliability_page() -> str:
    "Return the page."
    records = reliability_records()
    lines = ["# Reliability", "", "We tried to break the package on purpose; this page shows the results. All numbers come from the records in `results/reliability/`. Each part names its machine, "
             "versions and date, because not all parts were measured on the same machine. Commands are shown as they were run; scripts of `benchmarks/` that are no longer there have moved to `tools/`.", "", *table(summary_rows(records), "what was done", "Summary"), "", *fault_lines()]
    for name in ("reliability", "load"):
        for part in sorted(records.get(name, {}), key=list(TOLD).index):
            lines += part_lines(part, records[name][part])
    lines += fuzz_lines(records["fuzz"]) if "fuzz" in records else []
    lines += long_lines(records["test_long"]) if "test_long" in records else []
    lines += version_lines(records.get("versions", {}))
    return "\n".join([*lines, "## Dependencies", "", AUDIT, ""])
