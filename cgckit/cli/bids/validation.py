"""Asking bids-validator whether a data set is one of BIDS."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess  # nosec B404: what is run is bids-validator
import sys
from pathlib import Path

from cgckit.errors import BadInputError

logger = logging.getLogger(__name__)

_VALIDATORS = ("bids-validator-deno", "bids-validator")
_HINT = "mend it, or pass --skip-bids-validation"


def find_validator() -> str | None:
    """The program: beside this Python, where the extra puts it, or on the path; None if there is none."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return next((path for name in _VALIDATORS if (path := shutil.which(name, path=places))), None)


def check_bids(folder: Path, *, skip: bool) -> None:
    """Check a data set with bids-validator, if that is installed (the extra `bids` brings it), and in any case roughly.

    Raises:
        BadInputError: there is no such folder, or it is no valid data set.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no such folder")
    if skip:
        return
    try:
        description = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
        valid = "Name" in description and "BIDSVersion" in description
    except (OSError, ValueError, TypeError):
        valid = False
    if not valid:
        raise BadInputError(f"{folder}: no dataset_description.json with Name and BIDSVersion; {_HINT}")
    validator = find_validator()
    if validator is None:
        logger.info("bids-validator is not installed (pip install 'cgckit[bids]'): the data set is not validated")
        return
    done = subprocess.run(  # nosec B603: no shell, and the folder is one word
        [validator, str(folder.absolute()), "--json", "--ignoreWarnings"], capture_output=True, text=True, check=False
    )
    try:
        issues = json.loads(done.stdout)["issues"]
        found = issues["issues"] if isinstance(issues, dict) and "issues" in issues else issues["errors"]
        errors = [issue for issue in found if issue.get("severity", "error") == "error"]
    except (ValueError, LookupError, TypeError, AttributeError):
        logger.warning("%s gave no answer that can be read: the data set is not validated", Path(validator).name)
        return
    if errors:
        kinds = ", ".join(sorted({str(issue.get("code", issue.get("key", "?"))) for issue in errors}))
        place = next((issue["location"] for issue in errors if issue.get("location")), "")
        raise BadInputError(f"{folder}{place}: no valid BIDS ({kinds}); {_HINT}")
