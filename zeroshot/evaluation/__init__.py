"""Labelled datasets, and what is measured and fitted on them: metrics, intervals, calibration, tuning, learning."""
