"""From scans as they come to a `Case`: aligned, the brain found, on one working grid."""

from cgckit.images.preparation.known import Known
from cgckit.images.preparation.preparation import Preparation, prepare
from cgckit.images.preparation.prepared import Prepared
from cgckit.images.preparation.resampling import resample_case, transfer

__all__ = ["Known", "Preparation", "Prepared", "prepare", "resample_case", "transfer"]
