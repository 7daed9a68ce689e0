"""Why a method scores what it scores: neighbours in feature space, feature maps, confusions, calibration, pseudo-labels.

Everything here happens after a run. :mod:`look` passes validation clips through a finished run's network, :mod:`knn`,
:mod:`embedding` and :mod:`calibration` turn that into numbers, :mod:`data` keeps them (``leaderboards/analysis``), and
:mod:`plots` and :mod:`page` are pure functions of what is kept.
"""
