"""Training the starting network on simulated subjects of random contrast.

Unlike `cgckit.phantom`, which is frozen to measure on, these subjects are made to be wide: anything that a scan may
look like is drawn, and more.
"""

from cgckit.pretraining.subject import SimulatedScan, simulate
from cgckit.pretraining.training import pretrain, write_starting_network

__all__ = ["SimulatedScan", "pretrain", "simulate", "write_starting_network"]
