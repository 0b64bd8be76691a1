"""`python -m clip_factory` is the `factory` command."""

from clip_factory.cli.main import main

if __name__ == "__main__":
    main()
