"""Write records of several measurements that are made one by one, each with its machine, versions and time."""

import os
from datetime import date
from pathlib import Path

from facekp.files import write_json


def load_average() -> float | None:
    "Return the load average of the last minute; None on systems without one."
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def write_part(
    out: Path,  # JSON file of the record; its other parts are kept
    what: str,  # description of the record
    name: str,  # name of the part
    found: dict,  # the measurements
    seconds: float,  # duration in seconds
    busy: float | None,  # load_average before the measurement
    command: str,  # command that repeats the measurement
) -> dict:  # the part that was written
    "Write one part into a record, together with machine and versions."
    from facekp.experiments.measurement import (  # imported late, since some tools need no package
        MEASUREMENT_SCHEMA,
        describe_measurement,
        read_measurement,
    )

    parts = read_measurement(out)["parts"] if out.exists() else {}
    part = {**found, "date": date.today().isoformat(), "load_average_before": busy, **describe_measurement(command, seconds=round(seconds))}
    write_json(out, {"schema": MEASUREMENT_SCHEMA, "what": what, "parts": {**parts, name: part}})
    return part
