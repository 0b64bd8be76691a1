"""The small programs that the workflows call: each is `python -m automation.NAME --help`. See README.md beside this."""
