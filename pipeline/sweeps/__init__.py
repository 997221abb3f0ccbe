"""Many runs from one command: cells of a grid or of a search, where they run, how results go with what was varied."""
