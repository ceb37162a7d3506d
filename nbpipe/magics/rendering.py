"""The verbs' responses in a notebook: tables as HTML and text, outputs bound, a step's code in a new cell."""

from __future__ import annotations

from typing import Any

from nbpipe.entry_points import load_entry_point
from nbpipe.magics.kernel_session import KernelSession

# By the response's class, so that a kernel loads only what shows the responses that it gets.
RENDERERS = {
    "PlanResponse": "nbpipe.magics.plan_rendering:render_plan",
    "RunRequest": "nbpipe.magics.run_rendering:carry_out",
    "DetachedResponse": "nbpipe.magics.run_rendering:render_detached",
    "InKernelRequest": "nbpipe.magics.run_rendering:run_step_here",
    "RecordedRunResponse": "nbpipe.magics.recorded_run_rendering:render_run",
    "CancelResponse": "nbpipe.magics.recorded_run_rendering:render_cancelled",
    "RunListResponse": "nbpipe.magics.recorded_run_rendering:render_run_list",
    "WhyResponse": "nbpipe.magics.verdict_rendering:render_why",
    "AcceptResponse": "nbpipe.magics.verdict_rendering:render_acceptance",
    "DebugResponse": "nbpipe.magics.debug_rendering:render_debug",
    "LogResponse": "nbpipe.magics.result_rendering:render_log",
    "PullResponse": "nbpipe.magics.result_rendering:render_pulled",
    "ComparisonResponse": "nbpipe.magics.comparison_rendering:render_comparison",
    "VerificationResponse": "nbpipe.magics.verification_rendering:render_verification",
    "TrustResponse": "nbpipe.magics.verification_rendering:render_trust",
    "ComputeListResponse": "nbpipe.magics.compute_rendering:render_list",
    "ComputeResponse": "nbpipe.magics.compute_rendering:render_target",
    "ComputeTestResponse": "nbpipe.magics.compute_rendering:render_tests",
    "DatastoreListResponse": "nbpipe.magics.datastore_rendering:render_list",
    "DatastoreTestResponse": "nbpipe.magics.datastore_rendering:render_tests",
    "DatastoreAddedResponse": "nbpipe.magics.datastore_rendering:render_added",
    "CollectionResponse": "nbpipe.magics.retention_rendering:render_collection",
    "KeptResponse": "nbpipe.magics.retention_rendering:render_kept",
    "PinResponse": "nbpipe.magics.retention_rendering:render_pin",
    "DefaultStoreResponse": "nbpipe.magics.datastore_rendering:render_default",
    "StoreListingResponse": "nbpipe.magics.datastore_rendering:render_listing",
    "StoreUsageResponse": "nbpipe.magics.datastore_rendering:render_usage",
    "StoreChangeResponse": "nbpipe.magics.datastore_rendering:render_change",
    "DatasetListResponse": "nbpipe.magics.dataset_rendering:render_list",
    "DatasetResponse": "nbpipe.magics.dataset_rendering:render_version",
    "DatasetRegisteredResponse": "nbpipe.magics.dataset_rendering:render_registered",
    "DatasetDifferenceResponse": "nbpipe.magics.dataset_rendering:render_difference",
    "DatasetLineageResponse": "nbpipe.magics.dataset_rendering:render_lineage",
    "DatasetChangeResponse": "nbpipe.magics.dataset_rendering:render_change",
    "LintResponse": "nbpipe.magics.authoring_rendering:render_lint",
    "ProposalResponse": "nbpipe.magics.proposal_rendering:render_proposal",
    "FormatResponse": "nbpipe.magics.authoring_rendering:render_format",
    "DefaultsResponse": "nbpipe.magics.authoring_rendering:render_defaults",
}


def render(session: KernelSession, response: Any) -> None:
    """Show a response under the cell that called the verb."""
    load_entry_point(RENDERERS[type(response).__name__])(session, response)
