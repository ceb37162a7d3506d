"""Functions and methods of libraries that change, return or iterate over what they are given."""

from __future__ import annotations

# Classes whose methods may be called with an object in front: list.append(x, 1).
CONTAINERS = frozenset({"list", "dict", "set", "deque", "bytearray"})
# Functions of libraries that change their first argument.
CHANGERS = frozenset(
    {"setattr", "delattr", "setitem", "delitem", "shuffle", "heappush", "heappop", "heapify", "heapreplace",
     "heappushpop", "insort", "insort_left", "insort_right", "copyto", "fill_diagonal", "putmask", "place", "put"}
)  # fmt: skip
# Methods that return the object itself, a part or a view of it.
VIEWS = frozenset({"get", "setdefault", "items", "values", "view", "reshape", "ravel", "squeeze", "swapaxes"})
# Functions whose results have the elements of what they are given.
ITERATED = frozenset({"enumerate", "zip", "reversed", "list", "tuple", "sorted", "iter"})
# Functions that return their first argument, a part or a view of it.
SAME = frozenset({"getattr", "vars", "iter", "asarray"})
