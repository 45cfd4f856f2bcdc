"""Head movements."""
