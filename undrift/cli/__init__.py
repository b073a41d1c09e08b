"""The command `undrift`: one small module per command, each with

    add(parser)          its arguments, at the cost of importing argparse
    run(**options)       the work, importing what it needs; returns the exit code

`main` is the only place that parses, and that turns an exception into a line.
"""
