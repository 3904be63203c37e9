"""``python -m headrace``: the command line."""

from headrace.pipelines.app.cli import run

if __name__ == "__main__":
    run()
