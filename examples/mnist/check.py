"""Look up the rows of a finished run in the labels: `python check.py work/out-1`.

Prints the accuracy and how busy the workers were. Exit 1 when a digit has no row or more than
one, or when fewer than 97 of 100 are right.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

DIGITS = 10_000
ACCURACY_WANTED = 0.97


def main(arguments=None):
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the output folder of the run")
    parser.add_argument("--labels", type=Path, default=here / "work" / "labels.txt")
    options = parser.parse_args(arguments)

    labels = dict(line.split() for line in options.labels.read_text().splitlines())
    rows = read_rows(options.output / "parallel_run_step.txt")
    wrong_rows = what_is_wrong(rows, labels)
    right = sum(labels.get(name) == digit for name, digit in rows)
    accuracy = right / len(rows) if rows else 0.0
    print(f"check: {len(rows):,} rows, accuracy {accuracy:.4f} ({ACCURACY_WANTED} is wanted)")
    share = busy_share(options.output)
    if share is not None:
        print(f"check: workers busy in load and run() {share:.1%} of their time after init()")
    for text in wrong_rows:
        print(f"check: {text}", file=sys.stderr)
    return 1 if wrong_rows or accuracy < ACCURACY_WANTED else 0


def read_rows(path):
    """(name, digit) of each row."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SystemExit(f"check: {path} is not there; the run is not complete") from None
    return [tuple(line.rpartition(": ")[::2]) for line in lines]


def what_is_wrong(rows, labels):
    """One sentence per kind of mistake; right means every digit exactly once."""
    times = Counter(name for name, _ in rows)
    doubled = [name for name, count in times.items() if count > 1]
    missing = [name for name in labels if name not in times]
    unknown = [name for name in times if name not in labels]
    wrong = [
        f"{what}: {len(names):,}, the first is {names[0]}"
        for names, what in (
            (doubled, "digits with more than one row"),
            (missing, "digits without a row"),
            (unknown, "rows of no known digit"),
        )
        if names
    ]
    if len(rows) != DIGITS:
        wrong.append(f"{len(rows):,} rows; {DIGITS:,} are wanted")
    return wrong


def busy_share(output):
    """Seconds in load and run() / (workers x time), after init(); None if unknown.

    A worker's time begins when its init() has returned and ends with the last result of all.
    """
    report = output / "logs" / "sys" / "job_report" / "process_summary.csv"
    try:
        with report.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        return None
    busy_s = sum(float(line["Load Seconds"]) + float(line["Run Method Seconds"]) for line in lines)
    end_s = max(float(line["Last Result Second"]) for line in lines)
    there_s = sum(end_s - float(line["Ready Second"]) for line in lines)
    return busy_s / there_s if there_s else None


if __name__ == "__main__":
    sys.exit(main())
