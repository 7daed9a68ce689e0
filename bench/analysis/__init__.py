"""Analyses of finished runs: they open labels after the run, in stages of their own."""
