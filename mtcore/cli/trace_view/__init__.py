"""What `mtopt trace` shows: groups in one form, sorted into layers, as tables and as a page."""
