"""Durations and sizes in the unit that people would use."""


def duration_text(minutes: float) -> str:
    """About how long."""
    for unit, length in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * length:
            return f"{minutes / length:.0f} {unit}"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"


def size_text(gib: float) -> str:
    """About how much memory or disk."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.0f} MiB"
