"""Simulated trading days (``market_simulator``) and faults planted into them with an account (``simulated_faults``)."""
