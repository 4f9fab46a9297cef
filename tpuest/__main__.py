"""`python -m tpuest`: the `tpuest` command."""

from tpuest.cli import main

if __name__ == "__main__":
    main()
