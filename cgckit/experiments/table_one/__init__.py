"""The paper's Table 1 on any cohort with references."""

from cgckit.experiments.table_one.rows import SystemRow, left_out, texts
from cgckit.experiments.table_one.run import TableOne, table1

__all__ = ["SystemRow", "TableOne", "left_out", "table1", "texts"]
