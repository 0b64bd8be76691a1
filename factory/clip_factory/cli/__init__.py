"""The command line: a file a group of verbs; each parses, calls one function and prints."""
