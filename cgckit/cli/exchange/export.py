"""`cgckit export`: what other programs take of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options
from cgckit.cli.exchange.bars import counted
from cgckit.cli.exchange.tools import require

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Write what other programs take of a run: a data set for nnU-Net, DICOM segmentations, names of labels.\n\n"
        "Example: cgckit export nnunet refined/ nnUNet_raw/Dataset501_Lesions"
    ),
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of refine or predict.", show_default=False)]
Out = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", parser=options.read_path, help="A new folder, or that of an earlier export.", show_default=False
    ),
]
Scans = Annotated[
    Path | None,
    typer.Option(
        metavar="SCANS",
        parser=options.read_path,
        help="What the run was made of, if not all scans of a subject lie in one folder.",
        show_default=False,
    ),
]


@app.command()
def nnunet(
    run: Run,
    out: Out,
    scans: Scans = None,
    doubt: Annotated[
        float, typer.Option(help="Refined probabilities nearer to one half than this are ignored in training.")
    ] = 0.25,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write imagesTr, labelsTr and dataset.json; what the run is not sure of gets nnU-Net's ignore label.

    Example:

        cgckit export nnunet refined/ nnUNet_raw/Dataset501_Lesions
    """
    from cgckit.cli.tables import show_table
    from cgckit.exports.nnunet import export_nnunet

    with counted("Exporting", not quiet) as step:
        cases = export_nnunet(run, out, scans=scans, doubt=doubt, step=step)
    rows = [
        {
            "subject": case.label,
            "lesion ml": f"{case.lesion_ml:.2f}",
            "ignored ml": f"{case.ignored_ml:.2f}",
            "ignored share": f"{case.ignored_share:.2f}",
        }
        for case in cases
    ]
    show_table(rows, title=f"{len(rows)} subjects in {out}")


@app.command("dicom-seg")
def dicom_seg(
    run: Run,
    out: Out,
    dicom: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The DICOM files that the scans were made of.", show_default=False)
    ],
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The --mapping of the import, if it had one.", show_default=False),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write refined masks as DICOM segmentations of the series that the scans were made of. They name the patients.

    Example:

        cgckit export dicom-seg refined/ segmentations/ --dicom export/
    """
    from cgckit.cli.tables import show_table

    require("pydicom", "dcm2niix", "highdicom", extra="dicom")
    from cgckit.exports.dicom_seg import export_dicom_seg

    with counted("Exporting", not quiet) as step:
        done = export_dicom_seg(run, out, dicom, mapping=mapping, step=step)
    rows = [{"subject": item.label, "file": item.path.name, "slices": str(item.slices)} for item in done]
    show_table(rows, title=f"{len(rows)} segmentations in {out}; they name the patients")


@app.command()
def labels(out: Out, verbose: options.Verbose = False) -> None:
    """Write names and colours of the labels for ITK-SNAP and 3D Slicer.

    Example:

        cgckit export labels labels/
    """
    from cgckit.exports.label_names import write_label_names

    for path in write_label_names(out):
        print(path)


def lesions(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=options.read_path,
            help="The table; by default lesions.tsv in RUN.",
            show_default=False,
        ),
    ] = None,
    scans: Scans = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a table of every lesion: volume, centre, diameter, probability, side, depth, mean of each modality.

    Example:

        cgckit lesions refined/
    """
    from cgckit.exports.lesions import write_lesions

    with counted("Measuring", not quiet) as step:
        path, found = write_lesions(run, out, scans=scans, step=step)
    subjects = len({lesion.label for lesion in found})
    print(f"{path}: {len(found)} lesion{'s' * (len(found) != 1)} in {subjects} subject{'s' * (subjects != 1)}")
