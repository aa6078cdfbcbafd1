"""The only state of a study: every experiment, for ever."""
