"""Which problems there are, and what belongs to each."""
