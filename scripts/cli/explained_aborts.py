"""Passes on what it reads, up to a message that JAX has lost a process: LINE replaces the rest.

python explained_aborts.py LINE
"""

import sys

# After any of these JAX ends the process, with dozens of lines.
LAST_WORDS = (
    b"Polled an error from coordination service",
    b"Use error polling to propagate",
    b"Terminating process because the JAX distributed service",
)


def main(line: str) -> None:
    for text in sys.stdin.buffer:
        if any(words in text for words in LAST_WORDS):
            print("\n" + line, flush=True)  # below a progress bar
            break
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    for _ in sys.stdin.buffer:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
