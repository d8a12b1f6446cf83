"""Priors for cgckit: what auto-encoders of the cohort's axial slices cannot reconstruct."""

from cgckit_reconstruction.amcons import AmconsPrior
from cgckit_reconstruction.anovaegan import AnoVaeGanPrior
from cgckit_reconstruction.autoencoder import AutoencoderPrior
from cgckit_reconstruction.bayesian_vae import BayesianVaePrior
from cgckit_reconstruction.context_vae import ContextVaePrior
from cgckit_reconstruction.f_anogan import FAnoGanPrior
from cgckit_reconstruction.gmvae import GmvaePrior

__all__ = [
    "AmconsPrior",
    "AnoVaeGanPrior",
    "AutoencoderPrior",
    "BayesianVaePrior",
    "ContextVaePrior",
    "FAnoGanPrior",
    "GmvaePrior",
]
