"""The wall clock, for texts only.

Owns the one place where it is read.
Touches: the clock.
Never:   serves a timeout or a decision.
"""

from datetime import UTC, datetime, timedelta


def now_text(ago_s: float = 0.0) -> str:
    """`2026-11-22T14:00:00Z`, or what it was `ago_s` seconds ago."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
