"""A record of several measurements that are made one by one, each with the machine, the versions and the time it was made with."""

import json
import os
from datetime import date
from pathlib import Path

from facekp.files import write_json


def load_average() -> float | None:
    "How many processes wanted to compute in the last minute, on systems that tell."
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def write_part(
    out: Path,  # the record; parts that are in it already are kept
    what: str,  # what the record is of
    name: str,  # of the part
    found: dict,  # what was measured
    seconds: float,  # how long it took
    busy: float | None,  # load_average before it began
    command: str,  # that measures it again
) -> dict:  # the part as written
    "Put one part into a record, with what it was made on beside it."
    from facekp.experiments.record import describe_machine, describe_versions  # loads TensorFlow, which takes seconds

    record = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    part = {**found, "seconds": round(seconds), "date": date.today().isoformat(), "load_average_before": busy, "command": command,
            "machine": describe_machine(), "versions": describe_versions()}
    write_json(out, {"what": what, "parts": {**record.get("parts", {}), name: part}})
    return part
