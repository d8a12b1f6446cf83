"""Rigid registration of a subject's sequences to the one that outputs are on."""

from cgckit.images.registration.motion import angle, distance
from cgckit.images.registration.plugin import (
    REGISTRATIONS,
    Registration,
    fault_of,
    register,
    resolve_registration,
)

__all__ = ["REGISTRATIONS", "Registration", "angle", "distance", "fault_of", "register", "resolve_registration"]
