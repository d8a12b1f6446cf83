"""Scoring masks against references, which `experiments` builds on; nothing else reads a reference."""

from cgckit.evaluation.compare import evaluate
from cgckit.evaluation.metric import METRICS, Metric
from cgckit.evaluation.pair import Pair
from cgckit.evaluation.result import EvaluationResult, Row, Summary, summarise

__all__ = ["METRICS", "EvaluationResult", "Metric", "Pair", "Row", "Summary", "evaluate", "summarise"]
