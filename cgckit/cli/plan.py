"""What `--dry-run` shows: a table of the subjects, and in a few lines what would be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgckit.errors import LeftOutError

if TYPE_CHECKING:
    from cgckit.pipeline.refinement import Plan, Planned


def show_plan(plan: Plan) -> None:
    """Print a plan; LeftOutError, as at the end of the run, if subjects would be left out."""
    from cgckit.cli.tables import show_table

    rows = [
        {
            "subject": subject.source,
            "scans": " ".join(subject.modalities),
            "voxels": "x".join(map(str, subject.shape)),
            "mm": "x".join(f"{edge:.3g}" for edge in subject.spacing),
            "to do": ", ".join(_left(subject)) or "nothing",
        }
        for subject in plan.subjects
    ]
    empty = dict.fromkeys(("scans", "voxels", "mm"), "")
    rows += [{"subject": source, **empty, "to do": f"left out: {why}"} for source, why in plan.left_out.items()]
    count = len(plan.subjects)
    noun = "subject" if count == 1 else "subjects"
    show_table(rows, title=f"{count} {noun} to be refined into {plan.out}; nothing is written")
    preset = "" if plan.preset is None else f"preset {plan.preset}, "
    done = {deed: sum(deed in subject.done for subject in plan.subjects) for deed in ("prior", "map")}
    print(f"prior {plan.prior}, {preset}{plan.steps} steps on {plan.device}")
    trained = "yes" if plan.trained else "no"
    print(f"done: {done['prior']} of {count} priors, training {trained}, {done['map']} of {count} maps")
    print(f"memory: about {plan.memory / 1e9:.1f} GB for work on subjects")
    if plan.left_out:
        names, total = ", ".join(plan.left_out), count + len(plan.left_out)
        raise LeftOutError(f"{len(plan.left_out)} of {total} subjects would be left out ({names}); see the table")


def _left(subject: Planned) -> list[str]:
    """What is to be done for a subject, in order; its scans are prepared for its prior."""
    deeds = [deed for deed in ("prior", "map") if deed not in subject.done]
    return [*subject.preparation, *deeds] if "prior" in deeds else deeds
