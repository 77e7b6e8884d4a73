"""Durations and sizes in the unit that people would use."""


def duration_text(minutes: float) -> str:
    """About how long."""
    for unit, length in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * length:
            count = minutes / length
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"


def size_text(gib: float) -> str:
    """About how much memory or disk."""
    mib = round(1024 * gib)
    return f"{mib} MiB" if mib < 1024 else f"{gib:.1f} GiB"
