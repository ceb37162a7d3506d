"""The verbs' responses in a shell: plain lines or one JSON object, and the exit code."""

from __future__ import annotations

from typing import Any

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.entry_points import load_entry_point

# By the response's class, so that a command loads only what shows its own response.
RENDERERS = {
    "PlanResponse": "nbpipe.cli.plan_rendering:render_plan",
    "RunRequest": "nbpipe.cli.run_rendering:carry_out",
    "DetachedResponse": "nbpipe.cli.run_rendering:render_detached",
    "RecordedRunResponse": "nbpipe.cli.recorded_run_rendering:render_run",
    "CancelResponse": "nbpipe.cli.recorded_run_rendering:render_cancelled",
    "RunListResponse": "nbpipe.cli.recorded_run_rendering:render_run_list",
    "WhyResponse": "nbpipe.cli.verdict_rendering:render_why",
    "AcceptResponse": "nbpipe.cli.verdict_rendering:render_acceptance",
    "DebugResponse": "nbpipe.cli.debugging:render_debug",
    "LogResponse": "nbpipe.cli.result_rendering:render_log",
    "PullResponse": "nbpipe.cli.result_rendering:render_pulled",
    "ComparisonResponse": "nbpipe.cli.comparison_rendering:render_comparison",
    "VerificationResponse": "nbpipe.cli.verification_rendering:render_verification",
    "TrustResponse": "nbpipe.cli.verification_rendering:render_trust",
    "ComputeListResponse": "nbpipe.cli.compute_rendering:render_list",
    "ComputeResponse": "nbpipe.cli.compute_rendering:render_target",
    "ComputeTestResponse": "nbpipe.cli.compute_rendering:render_tests",
    "DatastoreListResponse": "nbpipe.cli.datastore_rendering:render_list",
    "DatastoreTestResponse": "nbpipe.cli.datastore_rendering:render_tests",
    "DatastoreAddedResponse": "nbpipe.cli.datastore_rendering:render_added",
    "CollectionResponse": "nbpipe.cli.retention_rendering:render_collection",
    "KeptResponse": "nbpipe.cli.retention_rendering:render_kept",
    "PinResponse": "nbpipe.cli.retention_rendering:render_pin",
    "DefaultStoreResponse": "nbpipe.cli.datastore_rendering:render_default",
    "StoreListingResponse": "nbpipe.cli.datastore_rendering:render_listing",
    "StoreUsageResponse": "nbpipe.cli.datastore_rendering:render_usage",
    "StoreChangeResponse": "nbpipe.cli.datastore_rendering:render_change",
    "DatasetListResponse": "nbpipe.cli.dataset_rendering:render_list",
    "DatasetResponse": "nbpipe.cli.dataset_rendering:render_version",
    "DatasetRegisteredResponse": "nbpipe.cli.dataset_rendering:render_registered",
    "DatasetDifferenceResponse": "nbpipe.cli.dataset_rendering:render_difference",
    "DatasetLineageResponse": "nbpipe.cli.dataset_rendering:render_lineage",
    "DatasetChangeResponse": "nbpipe.cli.dataset_rendering:render_change",
    "LintResponse": "nbpipe.cli.authoring_rendering:render_lint",
    "ProposalResponse": "nbpipe.cli.proposal_rendering:render_proposal",
    "FormatResponse": "nbpipe.cli.authoring_rendering:render_format",
    "InitResponse": "nbpipe.cli.authoring_rendering:render_init",
}


def render(caller: ShellCaller, response: Any) -> int:
    """Print a response, and return the command's exit code."""
    code: int = load_entry_point(RENDERERS[type(response).__name__])(caller, response)
    return code
