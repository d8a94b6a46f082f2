"""How long a lexicon takes to load, once it is compiled: from its name to a first translation, with the imports that needs.

    python benchmarks/lexicon_loading.py [--lexicon wiktionary+names] [--languages en-ru] [--rounds 5]

Each round is a process of its own; starting Python is not counted. Printed is the median, in seconds. The sources are downloaded before the first round where they are missing.
"""

import argparse
import statistics
import subprocess
import sys

LOADED = """
import sys, time
start = time.perf_counter()
from csrerank.lexicons.catalogue import find
found = find(*sys.argv[1:4])
found.translations(sys.argv[4])
print(time.perf_counter() - start)
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lexicon", default="wiktionary+names")
    parser.add_argument("--languages", default="en-ru")
    parser.add_argument("--word", default="house")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    command = [sys.executable, "-c", LOADED, options.lexicon, *options.languages.split("-"), options.word]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # compiles it, where that was not done
    seconds = [float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) for _ in range(options.rounds)]
    print(f"{options.lexicon} {options.languages}: {statistics.median(seconds):.2f} s to load (median of {options.rounds})")


if __name__ == "__main__":
    main()
