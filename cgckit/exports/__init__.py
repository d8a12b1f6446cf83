"""What other programs take of a run: data sets to train on, segmentations in DICOM, tables and names of labels."""
