"""A status in the words of the terminal: the live line and the final summary.

Owns these sentences and the way durations and counts are written in them.
Touches: nothing.
Never:   decides anything, or knows whether it is printed.

Names of files and errors stand in the text as they came: whoever prints it escapes what a
terminal would obey.
"""

from mpirun_infer.model import Status

_ENDED = ("interrupted", "complete", "failed")


def progress_line(status: Status) -> str:
    """`Processed 4117 of 20000 mini batches in 5:02:14. Estimated remaining time 19:25:59. ...`."""
    if status.state == "starting":
        workers = status.workers
        ready = f"{workers.ready} of {workers.total} workers ready" if workers.total else "starting"
        return f"Starting: {ready}, {duration(status.elapsed_s)}."
    batches = status.mini_batches
    processed = batches.done + batches.failed
    # Counts without separators: this is the line that ParallelRunStep users grep for.
    total = "" if batches.total is None else f" of {batches.total}"
    line = f"Processed {processed}{total} mini batches in {duration(status.elapsed_s)}."
    if batches.total is None and batches.listing:
        line += " Still listing."
    if status.eta_s is not None and status.state not in _ENDED:
        line += f" Estimated remaining time {duration(status.eta_s)}."
    if status.items_per_s > 0:
        line += f" {rate(status.items_per_s)} items/s."
    if status.items.failed:
        line += f" {counted(status.items.failed, 'item')} failed."
    if status.workers.lost:
        line += f" {counted(status.workers.lost, 'worker')} lost."
    if status.state == "draining":
        line = f"Draining. {line}"
    return line


def summary_lines(status: Status) -> list[str]:
    """How the run ended: counts, failures by cause, rate, where the rows are, first failure."""
    batches, items = status.mini_batches, status.items
    lines = [_headline(status)]
    if status.reason:
        names = ["reason"] + [""] * status.reason.count("\n")
        lines += [_named(*pair) for pair in zip(names, status.reason.split("\n"), strict=True)]
    lines.append(
        _named(
            "items", _split(items.total, (items.succeeded, "succeeded"), (items.failed, "failed"))
        )
    )
    lines.append(
        _named(
            "mini-batches",
            _split(batches.total, (batches.done, "done"), (batches.failed, "failed")),
        )
    )
    lines.append(_named("rows", f"{status.rows:,}"))
    causes = [f"{cause} {count:,}" for cause, count in status.failures.items() if count]
    lines.append(_named("failures", ", ".join(causes) or "none"))
    lines.append(
        _named("rate", f"{rate(status.items_per_s)} items/s, {status.scoring_s:.1f} s of scoring")
    )
    if status.output:
        lines.append(_named("file", status.output))
    first = status.first_failure
    if first is not None:
        where = first.item
        if first.mini_batch is not None:
            where += f" (mini-batch {first.mini_batch}, try {first.try_number})"
        lines.append(_named("first failure", f"{where}: {first.error}"))
        if first.log:
            lines.append(_named("its log", first.log))
    return lines


def duration(seconds: float) -> str:
    """`5:02:14`; hours are not cut into days, as ParallelRunStep users know it."""
    minutes, rest_s = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest_s:02}"


def rate(per_second: float) -> str:
    """Four digits or so: `0.052`, `451.6`, `12,346`."""
    if per_second >= 1000:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 10 else f"{per_second:.2g}"


def counted(number: int, noun: str) -> str:
    """`1 item`, `1,200 items`, `2 mini-batches`."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}" + ("" if number == 1 else plural)


def _headline(status: Status) -> str:
    took = duration(status.elapsed_s)
    match status.state:
        case "complete":
            line = f"Complete in {took}"
        case "failed":
            line = f"Failed after {took}"
        case "interrupted":
            line = f"Incomplete after {took}; the same command goes on from here"
        case other:
            line = f"{other.capitalize()}, {took} so far"
    if status.epoch > 1:
        line += f" (launch {status.epoch} of this run)"
    if status.exit_code:
        line += f", exit code {status.exit_code}"
    return f"{line}."


def _split(total: int | None, *parts: tuple[int, str]) -> str:
    """`10,000: 9,990 succeeded, 10 failed, 7 left`; without a total just the parts."""
    text = ", ".join(f"{count:,} {what}" for count, what in parts)
    if total is None:
        return text
    left = total - sum(count for count, _ in parts)
    return f"{total:,}: {text}" + (f", {left:,} left" if left > 0 else "")


def _named(name: str, text: str) -> str:
    return f"  {name:<13}  {text}"
