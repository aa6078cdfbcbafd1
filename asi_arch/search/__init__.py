"""How a study searches: from where the next proposal starts, and when a run is stopped."""
