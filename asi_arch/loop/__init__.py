"""The parts of the closed loop that `study.py` puts together."""
