"""What a fork server imports first: with no garbage collection meanwhile, the other imports take a third less.

`tests.processes` turns it on again in each fork, and exempts everything imported.
"""

import gc

gc.disable()
