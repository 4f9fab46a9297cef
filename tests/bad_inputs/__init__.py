"""The list of bad inputs and faults: name to (program, type of the error, what its message says).

A program is a function of a `Room` and does one thing wrong. `CASES` are run by `test_bad_inputs.py`.
"""

from bad_inputs import answers, calls, commands, configuration, damage, hooks, inputs

_SUBJECTS = (configuration, calls, inputs, answers, hooks, damage, commands)
CASES = {name: case for subject in _SUBJECTS for name, case in subject.CASES.items()}
