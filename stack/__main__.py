"""`python -m stack`: the same as the `stack` command."""

from stack.cli import main

if __name__ == "__main__":
    main()
