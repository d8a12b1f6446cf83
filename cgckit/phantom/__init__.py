"""A simulated cohort with known lesions on real anatomy, for demonstrations and tests without patients.

The anatomy is nilearn's copy of the MNI152 tissue maps at 1 mm, deformed and refolded for each subject.
Lesions of varied number, size, shape, texture and contrast are grown into it; FLAIR and T1 follow with the
brightness of structures that are no lesion, a receive field, a point-spread function and Rician noise. For CT a
head is grown around the brain, and bleeding of several kinds, calcifications, dense dura, the beam's hardening and
slices of several thicknesses take their place. Raw scans are whole heads in FLAIR, T1 and T2, not aligned and each on
a grid of its own.

The generator is frozen as version `GENERATOR_VERSION`: figures measured on it stay comparable, and anything
tuned on it was tuned on something that does not move. Any change of what it draws must raise the version.
"""

from cgckit.phantom.cohort import GENERATOR_VERSION, write_cohort
from cgckit.phantom.subject import PhantomSubject, simulate_ct_subject, simulate_raw_subject, simulate_subject

__all__ = [
    "GENERATOR_VERSION",
    "PhantomSubject",
    "simulate_ct_subject",
    "simulate_raw_subject",
    "simulate_subject",
    "write_cohort",
]
