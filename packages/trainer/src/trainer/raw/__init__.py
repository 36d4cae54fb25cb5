"""The publishers' files: fetched, found, read row by row, and made into conversations."""
