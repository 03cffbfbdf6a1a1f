# SPDX-License-Identifier: Apache-2.0

"""The start of a program in Python: the interpreter seeds its hashes before anything else. See start.c."""

import os
import random
import sys
import time
from collections import Counter

from wit_world.exports import Run as Base


def yes(condition):
    return "yes" if condition else "no"


class Run(Base):
    def run(self):
        for word, count in sorted(Counter(sys.argv[1:]).items()):
            print(word, count)
        print("NAME", os.environ.get("NAME", "-"))
        print("lines", len(sys.stdin.readlines()))

        with open("/data/note", "w") as file:
            file.write("from Python\n")
        with open("/data/note") as file:
            print("note", file.read(), end="")

        before = time.monotonic()
        time.sleep(0.005)
        print("slept", yes(time.monotonic() - before >= 0.005))
        print("date", yes(time.time() > 1700000000))

        # The module's other generator was seeded when the component was made.
        print(f"random {random.SystemRandom().getrandbits(64):016x}")
