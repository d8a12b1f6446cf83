"""Experiments on cohorts with references: cross-validation, and the ablations of Yu, Zhao et al."""
