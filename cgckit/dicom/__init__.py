"""From DICOM to a cohort: what is in a tree of files, and NIfTI files of it in which nothing personal is left."""

from cgckit.dicom.importing import Imported, import_dicom

__all__ = ["Imported", "import_dicom"]
