"""`python -m workflow`: the command `campaign` where its entry point is not on the path."""

from workflow.cli import main

if __name__ == "__main__":
    main()
