"""Tables of results as text and as HTML."""
