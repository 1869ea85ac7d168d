"""The process that `isolated.ask` starts: `python -m export.benchmark.child MODULE FUNCTION PATH ARGUMENTS`.

PATH is that of a file, or `-` for the file's bytes on standard input. ARGUMENTS are a JSON object. The last
line on standard output is a JSON object with the key `answer`, or `error` with one line of text.
"""

import dataclasses
import importlib
import json
import pathlib
import sys


def main() -> int:
    """Calls the function; returns the exit code."""
    module, name, path, arguments = sys.argv[1:]
    try:
        function = getattr(importlib.import_module(module), name)
        file = sys.stdin.buffer.read() if path == "-" else pathlib.Path(path)
        answer = json.dumps({"answer": function(file, **json.loads(arguments))}, default=dataclasses.asdict)
    # Whatever a damaged file makes Python's part of LiteRT raise is about the file.
    except Exception as error:
        print(json.dumps({"error": " ".join(str(error).split()) or type(error).__name__}))
        return 1
    print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
