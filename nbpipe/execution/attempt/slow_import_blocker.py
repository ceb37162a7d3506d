"""Importing this keeps ``rfc3987_syntax`` out of the process, so that papermill and nbformat load four times faster.

Where JupyterLab is installed, ``import jsonschema`` loads rfc3987_syntax, which compiles grammars for checks of
internationalised addresses: 2.2 seconds, for formats that no notebook schema asks for (jsonschema#1428,
jupyter_server#1559). jsonschema works without the module. Only processes of nbpipe do this; a step's kernel never does,
because there the author may need the module.
"""

from __future__ import annotations

import sys

_SLOW = "rfc3987_syntax"


def keep_out() -> None:
    """Make later imports of jsonschema skip the slow module; one that is loaded already stays."""
    if _SLOW not in sys.modules:
        sys.modules[_SLOW] = None  # type: ignore[assignment]  # the documented way to make an import fail


# On import, because it has to come before other imports.
keep_out()
