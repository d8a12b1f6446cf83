"""The contracts of plug-ins as tests that anybody can call: `check_prior`, `check_brain`,
`check_registration` and `check_metric`.

Example:
    >>> from cgckit.testing import check_prior
    >>> def test_my_prior_keeps_the_contract():
    ...     check_prior(MyPrior)  # doctest: +SKIP
"""

from cgckit.testing.brains import check_brain, simulated_heads
from cgckit.testing.cases import simulated_cases
from cgckit.testing.metrics import check_metric, simulated_pairs
from cgckit.testing.priors import check_prior
from cgckit.testing.registrations import check_registration, simulated_motions
from cgckit.testing.rules import ContractError, Verdict

__all__ = [
    "ContractError",
    "Verdict",
    "check_brain",
    "check_metric",
    "check_prior",
    "check_registration",
    "simulated_cases",
    "simulated_heads",
    "simulated_motions",
    "simulated_pairs",
]
