"""A run of `cgckit.refine`: what was asked for, what would be done, and doing it."""

from cgckit.pipeline.refinement.plan import Plan, Planned, plan_refinement
from cgckit.pipeline.refinement.refinement import Refinement

__all__ = ["Plan", "Planned", "Refinement", "plan_refinement"]
