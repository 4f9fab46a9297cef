"""Measures how long the demo, on 8 simulated cores, takes to end after its last line.

    python -m benchmarks.exit_time
"""

import subprocess
import sys
import time


def main():
    command = [sys.executable, "-u", "-m", "tpuest.examples.digits"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        for _ in child.stdout:
            last_line = time.monotonic()
        status = child.wait()
    print(f"ended with {status}, {time.monotonic() - last_line:.2f} s after its last line")


if __name__ == "__main__":
    main()
