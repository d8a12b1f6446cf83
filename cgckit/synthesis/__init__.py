"""Simulated subjects of random contrast, to pre-train a network that has never seen a real scan.

Unlike `cgckit.phantom`, which is frozen to measure on, this is made to be wide: anything that a scan may look like is
drawn, and more.
"""
