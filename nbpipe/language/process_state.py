"""Calls that change what a process has once, such as its working folder, for all code that runs in it afterwards."""

from __future__ import annotations

import ast

from nbpipe.language.object_effects import NOTHING, Origin, Origins
from nbpipe.language.setting_table import users_of

FOLDER: Origin = ("process", "working folder")
# The settings of the table are reported apart.
_CALLS = frozenset(
    {"signal.signal", "signal.alarm", "signal.setitimer", "gc.disable", "gc.enable", "gc.freeze", "gc.set_threshold",
     "os.umask", "os.nice", "os.setpriority", "atexit.register", "faulthandler.enable", "resource.setrlimit",
     "codecs.register", "copyreg.pickle", "tracemalloc.start", "os.sched_setaffinity", "sys.settrace",
     "sys.setprofile", "threading.settrace", "threading.setprofile", "threading.stack_size",
     "asyncio.set_event_loop_policy", "asyncio.set_event_loop", "builtins.setattr", "importlib.reload",
     "importlib.invalidate_caches", "random.setstate"}
)  # fmt: skip

# Functions with such names keep what they are given, for whatever uses their module afterwards.
_SETTING_WORDS = ("set_", "reset_", "register", "unregister", "enable", "disable", "configure")

# What a kernel has once, and code can replace: each is shown or read by whatever runs afterwards.
_REPLACED = ("sys.stdout", "sys.stderr", "sys.stdin", "sys.displayhook", "sys.excepthook")


def replaced_state(name: str) -> Origins:
    """Return the origin of what an assignment to an attribute, by its full name, replaces in its process."""
    return frozenset(("process", each) for each in _REPLACED if name == each or name.startswith(f"{each}."))


def process_state(name: str) -> Origins:
    """Return the origins of what a call of a function, by its full name, changes in its process."""
    if name == "os.chdir":
        return frozenset([FOLDER])
    return frozenset([("module", name.partition(".")[0])]) if name in _CALLS else NOTHING


def option_set(name: str, call: ast.Call) -> Origins:
    """Return the module of an imported function, by its full name, if it seems to set an option there.

    What is given a variable first may change that instead (``set_edge_attributes(graph, …)``). Settings of the table
    are reported apart.
    """
    module, _, function = name.partition(".")
    first = call.args[0] if call.args else None
    sets = function.rpartition(".")[2].startswith(_SETTING_WORDS) and not isinstance(first, ast.Name | ast.Attribute)
    return frozenset([("module", module)]) if sets and not users_of(name, {}) else NOTHING
