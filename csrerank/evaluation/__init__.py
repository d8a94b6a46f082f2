"""Evidence that a re-ranked run is better: measures of runs against qrels, and the tables that show them."""

from csrerank.evaluation.measures import Measure, Scores, evaluate, parse_measure
from csrerank.evaluation.table import remarks, table

__all__ = ["Measure", "Scores", "evaluate", "parse_measure", "remarks", "table"]
