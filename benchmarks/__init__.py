"""`make bench`: this program against what one would use instead. Start at `__main__.py`."""
