"""Calls that seed, or draw from, the generators of random numbers that a library has for its whole process."""

from __future__ import annotations

import ast

SEEDS = {"numpy": "np.random.seed", "random": "random.seed", "torch": "torch.manual_seed"}
_SEEDING = {**{call: library for library, call in SEEDS.items()}, "numpy.random.seed": "numpy"}
_DRAWING = {"np.random.": "numpy", "numpy.random.": "numpy", "random.": "random", "torch.rand": "torch"}
# These draw from numpy's generator unless they are given another one, or a seed.
_DRAWING_BY_DEFAULT = frozenset(
    {"sample", "train_test_split", "ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit", "RandomizedSearchCV",
     "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
     "GradientBoostingClassifier", "GradientBoostingRegressor", "DecisionTreeClassifier", "DecisionTreeRegressor",
     "BaggingClassifier", "BaggingRegressor", "AdaBoostClassifier", "AdaBoostRegressor", "IsolationForest", "KMeans",
     "MiniBatchKMeans", "GaussianMixture", "BayesianGaussianMixture", "MLPClassifier", "MLPRegressor", "SGDClassifier",
     "SGDRegressor", "TSNE", "NMF", "LatentDirichletAllocation", "FastICA", "Perceptron", "RandomProjection",
     "make_classification", "make_regression", "make_blobs", "make_moons", "make_circles", "permutation_importance",
     "resample", "bootstrap", "rvs", "shuffle_split"}
)  # fmt: skip
_GIVEN = frozenset({"random_state", "rng", "seed", "generator"})
# These make or keep a generator of their own.
_OTHERS = frozenset(
    {"seed", "default_rng", "Random", "SystemRandom", "RandomState", "Generator", "SeedSequence", "PCG64", "getstate",
     "setstate", "get_state", "set_state"}
)  # fmt: skip


def seeded_library(call: str) -> str | None:
    """Return the library whose generator a call seeds, by the called name as it is written."""
    return _SEEDING.get(call)


def drawn_library(call: str, node: ast.Call) -> str | None:
    """Return the library whose generator a call draws from."""
    last = call.rpartition(".")[2]
    if last in _OTHERS:
        return None
    draws = call.startswith(tuple(_DRAWING))
    library = next(library for prefix, library in _DRAWING.items() if call.startswith(prefix)) if draws else None
    return "numpy" if library is None and draws_by_default(last, node) else library


def draws_by_default(name: str, call: ast.Call) -> bool:
    """Return whether a function or method draws from numpy's generator, because it is given none and no seed."""
    return name in _DRAWING_BY_DEFAULT and not any(item.arg in _GIVEN for item in call.keywords)
