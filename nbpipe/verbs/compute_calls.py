"""The calls behind the verbs about compute targets, and their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbpipe.model.compute import TargetDescription
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.compute_targets import TargetTest, compute_targets, named, try_target


@dataclass(frozen=True, slots=True)
class ComputeListResponse:
    """The compute targets."""

    targets: Sequence[TargetDescription]


@dataclass(frozen=True, slots=True)
class ComputeResponse:
    """One compute target."""

    described: TargetDescription


@dataclass(frozen=True, slots=True)
class ComputeTestResponse:
    """Whether steps can run on compute targets."""

    tests: Sequence[TargetTest]


def compute_list(_invocation: Invocation, caller: Caller) -> ComputeListResponse:
    """Return the compute targets."""
    return ComputeListResponse(compute_targets(caller.folder))


def compute_show(invocation: Invocation, caller: Caller) -> ComputeResponse:
    """Return the named compute target."""
    (described,) = named(compute_targets(caller.folder), [invocation[options.COMPUTE_TARGET]])
    return ComputeResponse(described)


def compute_test(invocation: Invocation, caller: Caller) -> ComputeTestResponse:
    """Return whether steps can run on the named targets, or on all."""
    targets = compute_targets(caller.folder)
    names = invocation[options.SOME_COMPUTE_TARGETS] or [each.target.name for each in targets]
    return ComputeTestResponse([try_target(each) for each in named(targets, names)])
