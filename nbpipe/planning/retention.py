"""Which results are kept, and why: decided from their uses alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from nbpipe.model.retention import ResultUse, Retention, RetentionPolicy

_DAY = 24 * 3600.0


def retained(
    uses: Iterable[ResultUse],
    policy: RetentionPolicy,
    now: float,
    *,
    pinned: Collection[str],
    named: Mapping[str, str],
    active: Collection[str] = (),
) -> dict[str, Retention]:
    """Return why results are kept, by the attempts that made them; all others can be collected.

    ``pinned`` are the ids of runs that keep all their results, as ``active`` ones do until they end; ``named`` are the
    attempts whose results have a name, with that name.
    """
    every = sorted(uses, key=lambda use: -use.number)
    window = _window(every, policy, now)
    kept: dict[str, Retention] = {}
    newest: dict[str, float] = {}
    steps: set[tuple[str, str]] = set()
    for use in every:
        newest[use.attempt] = max(newest.get(use.attempt, 0.0), use.started)
        first = (use.pipeline, use.step) not in steps
        steps.add((use.pipeline, use.step))
        why = _reason(use, first=first, pinned=pinned, active=active, window=window)
        known = kept.get(use.attempt)
        if why is not None and (known is None or (why[1] and not known.by_name)):
            kept[use.attempt] = Retention(*why, newest[use.attempt])
    by_name = {
        attempt: Retention(name, by_name=True, newest=newest.get(attempt, now)) for attempt, name in named.items()
    }
    return kept | by_name


def _reason(
    use: ResultUse, *, first: bool, pinned: Collection[str], active: Collection[str], window: Collection[str]
) -> tuple[str, bool] | None:
    if use.run in pinned:
        return f"run {use.number} is pinned", True
    if use.run in active:
        return f"run {use.number} goes on", True
    if first:
        return f"it is the newest result of step {use.step}, of run {use.number}", True
    return (f"run {use.number} is recent", False) if use.run in window else None


def _window(uses: Iterable[ResultUse], policy: RetentionPolicy, now: float) -> set[str]:
    """Return the runs that the policy keeps by their age, given uses from the newest to the oldest."""
    runs: dict[str, dict[str, float]] = defaultdict(dict)
    for use in uses:
        runs[use.pipeline].setdefault(use.run, use.started)
    return {
        run
        for of_pipeline in runs.values()
        for place, (run, started) in enumerate(of_pipeline.items())
        if place < policy.runs or started > now - policy.days * _DAY
    }


def within_size(kept: Mapping[str, Retention], sizes: Mapping[str, int], limit: int | None) -> dict[str, Retention]:
    """Return the results that are kept if all together may have ``limit`` bytes: the oldest go first.

    ``sizes`` are the bytes of each attempt's result. What is kept by name stays even above the limit.
    """
    if limit is None:
        return dict(kept)
    total = sum(sizes.get(attempt, 0) for attempt in kept)
    result = dict(kept)
    for attempt, retention in sorted(kept.items(), key=lambda item: item[1].newest):
        if total <= limit:
            break
        if not retention.by_name:
            del result[attempt]
            total -= sizes.get(attempt, 0)
    return result
