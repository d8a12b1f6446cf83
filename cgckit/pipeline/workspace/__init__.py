"""The output folder of a run: whose it is, what of it is done, and what of it may go once it is complete."""

from cgckit.pipeline.workspace.workspace import LOG, RECORD, RESULTS, Workspace

__all__ = ["LOG", "RECORD", "RESULTS", "Workspace"]
