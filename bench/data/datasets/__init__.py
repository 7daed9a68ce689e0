"""Recorded data sets, one file each, found by file name."""
