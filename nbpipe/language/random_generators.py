"""Calls that seed, or draw from, the generators of random numbers that a library has for its whole process."""

from __future__ import annotations

SEEDS = {"numpy": "np.random.seed", "random": "random.seed", "torch": "torch.manual_seed"}
_SEEDING = {**{call: library for library, call in SEEDS.items()}, "numpy.random.seed": "numpy"}
_DRAWING = {"np.random.": "numpy", "numpy.random.": "numpy", "random.": "random", "torch.rand": "torch"}
# These make or keep a generator of their own.
_OTHERS = frozenset(
    {"seed", "default_rng", "Random", "SystemRandom", "RandomState", "Generator", "SeedSequence", "PCG64", "getstate",
     "setstate", "get_state", "set_state"}
)  # fmt: skip


def seeded_library(call: str) -> str | None:
    """Return the library whose generator a call seeds, by the called name as it is written."""
    return _SEEDING.get(call)


def drawn_library(call: str) -> str | None:
    """Return the library whose generator a call draws from."""
    if call.rpartition(".")[2] in _OTHERS:
        return None
    return next((library for prefix, library in _DRAWING.items() if call.startswith(prefix)), None)
