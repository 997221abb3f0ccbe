"""The quality report: what is in a data set, as one page for people, before anything is trained on it."""
