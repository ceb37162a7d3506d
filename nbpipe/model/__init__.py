"""The words of nbpipe as frozen values: what floors hand to one another."""

from __future__ import annotations

from nbpipe.model.attempt import (
    AttemptEnded,
    AttemptReport,
    AttemptStarted,
    AttemptTold,
    Failure,
    Job,
    JobInput,
    JobOutput,
    Outcome,
)
from nbpipe.model.author import (
    Cell,
    Definition,
    Elsewhere,
    Files,
    FromParameter,
    FrozenModule,
    Input,
    Options,
    Output,
    Parameter,
    Piece,
    Pipeline,
    Source,
    Step,
    StepCode,
    StepOutput,
    Warned,
)
from nbpipe.model.content import Artifact, Content
from nbpipe.model.event import Metric, StepEvent, StepEventKind
from nbpipe.model.preview import Picture, Preview
from nbpipe.model.record import GitState, RunRecord, StepRecord
from nbpipe.model.status import Reuse, Status
from nbpipe.model.verdicts import (
    Component,
    DependsVerdict,
    Hit,
    Observed,
    Origin,
    Reason,
    ReuseVerdict,
    RunVerdict,
    SkipVerdict,
    Verdict,
)

__all__ = [
    "Artifact", "AttemptEnded", "AttemptReport", "AttemptStarted", "AttemptTold", "Cell", "Component", "Content",
    "Definition", "DependsVerdict", "Elsewhere", "Failure", "Files", "FromParameter", "FrozenModule", "GitState", "Hit",
    "Input", "Job", "JobInput", "JobOutput", "Metric", "Observed", "Options", "Origin", "Outcome", "Output",
    "Parameter", "Picture", "Piece", "Pipeline", "Preview", "Reason", "Reuse", "ReuseVerdict", "RunRecord",
    "RunVerdict", "SkipVerdict", "Source", "Status", "Step", "StepCode", "StepEvent", "StepEventKind", "StepOutput",
    "StepRecord", "Verdict", "Warned",
]  # fmt: skip
