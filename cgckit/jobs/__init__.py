"""Work on many subjects at once: who does it, what is sent to other processes, and who is left out."""

from cgckit.jobs.part import Part
from cgckit.jobs.ratings import Ratings
from cgckit.jobs.step import Step
from cgckit.jobs.subjects import LEFT_OUT, LeftOut, over_subjects, usable
from cgckit.jobs.workers import Workers

__all__ = ["LEFT_OUT", "LeftOut", "Part", "Ratings", "Step", "Workers", "over_subjects", "usable"]
