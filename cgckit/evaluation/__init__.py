"""Scoring masks against references, which `experiments` builds on; nothing else reads a reference."""

from cgckit.evaluation.compare import evaluate
from cgckit.evaluation.result import EvaluationResult, Row, Summary, summarise

__all__ = ["EvaluationResult", "Row", "Summary", "evaluate", "summarise"]
