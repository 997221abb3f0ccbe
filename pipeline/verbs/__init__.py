"""What the words of the command line do, a file for each: `verb(options, screen)` gives an exit code and a document."""
