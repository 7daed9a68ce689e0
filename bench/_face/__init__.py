"""What ``import bench`` offers: every command of the command line as one call with the same words (see :mod:`bench`)."""
