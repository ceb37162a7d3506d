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
from nbpipe.model.content import Artifact, Content, Reference
from nbpipe.model.event import (
    AttemptChanged,
    ExecutionChanged,
    Metric,
    MetricLogged,
    OutputWritten,
    RunChanged,
    RunEvent,
    RunFact,
    RunGrown,
    StepEvent,
    StepEventKind,
)
from nbpipe.model.preview import Picture, Preview
from nbpipe.model.record import AttemptRecord, ExecutionRecord, GitState, PipelineRecord, RunRecord, step_needs
from nbpipe.model.run_picture import RunPicture
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
    "Artifact", "AttemptChanged", "AttemptEnded", "AttemptRecord", "AttemptReport", "AttemptStarted", "AttemptTold",
    "Cell", "Component", "Content", "Definition", "DependsVerdict", "Elsewhere", "ExecutionChanged",
    "ExecutionRecord", "Failure", "Files", "FromParameter", "FrozenModule", "GitState", "Hit", "Input", "Job",
    "JobInput", "JobOutput", "Metric", "MetricLogged", "Observed", "Options", "Origin", "Outcome", "Output",
    "OutputWritten", "Parameter", "Picture", "Piece", "Pipeline", "PipelineRecord", "Preview", "Reason", "Reference",
    "Reuse", "ReuseVerdict", "RunChanged", "RunEvent", "RunFact", "RunGrown", "RunPicture", "RunRecord", "RunVerdict",
    "SkipVerdict", "Source", "Status", "Step", "StepCode", "StepEvent", "StepEventKind", "StepOutput", "Verdict",
    "Warned", "step_needs",
]  # fmt: skip
