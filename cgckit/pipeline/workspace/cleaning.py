"""`clean`: giving back the disk space of caches and checkpoints."""

from __future__ import annotations

from pathlib import Path

from cgckit.errors import BadInputError, UsageError
from cgckit.ledger import Ledger
from cgckit.lock import locked
from cgckit.pipeline.workspace.workspace import RECORD, RESULTS, Workspace, remove_work
from cgckit.sealed import DamagedError, read_json


def clean(out: str | Path, *, force: bool = False) -> int:
    """Remove what a complete run keeps in `work/` to do the same again quicker: prior maps, brains, transforms.

    What the run found out of each subject, a few lines, stays: its command finds everything done as before. With
    another setting of inference, it computes the priors again.

    Args:
        out: output folder of `refine`, `predict`, `compute_priors` or `prepare`.
        force: of a run that is not complete too; what goes then, it has to compute again, the training from its start.

    Returns:
        The size of what was removed [bytes].

    Raises:
        BadInputError: the folder holds no run.
        UsageError: the run is not complete, or a process is at work on it; a folder of it is a link.
    """
    workspace = Workspace(Path(out), key="")
    root, ledger = workspace.out.root, Ledger(workspace.out.root)
    record, caches = root / RECORD, (workspace.priors, workspace.prepared)
    if (root / RESULTS).exists() or record not in ledger or not record.is_file():
        raise BadInputError(f"{root}: holds no run of cgckit; give the output folder of refine, predict or prior")
    for folder in (workspace.scratch, *caches):
        if folder.is_symlink() or folder.parent.is_symlink():
            ledger.refuse_others([folder])
    with locked(root):
        if not force and (status := _status(record)) != "complete":
            raise UsageError(
                f"{root}: holds a run that is not complete ({status}), which its command goes on with; "
                "pass --force to remove what it needs for that"
            )
        # Outcomes are JSON, and stay.
        return sum(map(remove_work, caches)) + remove_work(workspace.scratch, (".safetensors", ".lock"))


def _status(record: Path) -> str:
    try:
        return str(read_json(record).get("status"))
    except DamagedError:
        return f"{record.name} is damaged"
