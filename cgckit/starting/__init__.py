"""The starting network: trained on simulated lesions alone, it knows what a lesion is before the first scan."""

from cgckit.starting.network import (
    CROP,
    SLOTS,
    SPACING,
    WEIGHTS,
    StartingNetwork,
    new_network,
    shipped_hash,
    slots,
    slots_of,
    starting_log_odds,
)

__all__ = [
    "CROP",
    "SLOTS",
    "SPACING",
    "WEIGHTS",
    "StartingNetwork",
    "new_network",
    "shipped_hash",
    "slots",
    "slots_of",
    "starting_log_odds",
]
