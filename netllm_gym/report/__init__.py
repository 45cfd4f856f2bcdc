"""Tables -> text and HTML."""
