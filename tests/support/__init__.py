"""What several test files share; found as ``support`` because pytest puts ``tests/`` on the path."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
