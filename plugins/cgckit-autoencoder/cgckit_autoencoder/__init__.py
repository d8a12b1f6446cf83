"""A prior for cgckit: what a convolutional auto-encoder of the cohort cannot reconstruct."""

from cgckit_autoencoder.prior import AutoencoderPrior

__all__ = ["AutoencoderPrior"]
