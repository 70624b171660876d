"""Evaluation on labelled datasets: metrics, intervals, comparison, calibration, template tuning."""
