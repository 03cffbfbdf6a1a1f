# SPDX-License-Identifier: Apache-2.0

# Greets its first argument, or the world.
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        name = sys.argv[1] if len(sys.argv) > 1 else "world"
        print(f"Hello, {name}, from Python!")
